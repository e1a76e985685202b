const data = JSON.parse(document.getElementById('data').textContent);
const darkness = matchMedia('(prefers-color-scheme: dark)');

function colour(i) {
  const light = ['#3b6fb0', '#d9731a', '#3f8f3f', '#c9403f', '#8a5fa8', '#8a6548', '#2b8f8c', '#b08a00', '#c75a86', '#6b7580'];
  const dark = ['#72a7e8', '#f29d52', '#74c374', '#f07c7a', '#c39be0', '#c09a78', '#5fc4c0', '#dcbc3f', '#f09abd', '#a5b0bb'];
  return (darkness.matches ? dark : light)[i % light.length];
}
function variable(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

// As vmcow/cli/human.cpp writes them.
function bytes(n) {
  if (n < 0) return '-' + bytes(-n);
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  while (n >= (unit ? 1023.95 : 1024) && unit + 1 < units.length) { n /= 1024; unit++; }
  return (unit ? n.toFixed(1) : +n.toFixed(1)) + ' ' + units[unit];
}

// Marks of a linear axis of bytes: at multiples of a power of two, where bytes() writes round numbers.
function byteTicks(axis) {
  const step = 2 ** Math.ceil(Math.log2(Math.max(axis.max - axis.min, 1) / 8));
  axis.ticks = [];
  for (let at = Math.ceil(axis.min / step) * step; at <= axis.max; at += step) axis.ticks.push({ value: at });
}

// A chart lives in the canvas `id`. It is made by `make`, again when the screen turns dark or light.
const charts = new Map();
function chart(id, make) {
  const draw = () => {
    charts.get(id)?.destroy();
    Chart.defaults.color = variable('--soft');
    Chart.defaults.borderColor = variable('--grid');
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    const config = make();
    config.options = { animation: false, maintainAspectRatio: false, ...config.options };
    charts.set(id, new Chart(document.getElementById(id), config));
  };
  draw();
  darkness.addEventListener('change', draw);
}
