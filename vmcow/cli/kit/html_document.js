const data = JSON.parse(document.getElementById('data').textContent);
const darkness = matchMedia('(prefers-color-scheme: dark)');

function colour(i) {
  const light = ['#3b6fb0', '#d9731a', '#3f8f3f', '#c9403f', '#8a5fa8', '#8a6548', '#2b8f8c', '#b08a00', '#c75a86', '#6b7580'];
  const dark = ['#72a7e8', '#f29d52', '#74c374', '#f07c7a', '#c39be0', '#c09a78', '#5fc4c0', '#dcbc3f', '#f09abd', '#a5b0bb'];
  return (darkness.matches ? dark : light)[i % light.length];
}
function variable(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

// Formats bytes as human_bytes() in vmcow/cli/kit/human.cpp does.
function bytes(n) {
  if (n < 0) return '-' + bytes(-n);
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  while (n >= (unit ? 1023.95 : 1024) && unit + 1 < units.length) { n /= 1024; unit++; }
  return (unit ? n.toFixed(1) : +n.toFixed(1)) + ' ' + units[unit];
}

// Puts the ticks of a linear axis of bytes at multiples of a power of two, where bytes() writes round numbers.
function byteTicks(axis) {
  const step = 2 ** Math.ceil(Math.log2(Math.max(axis.max - axis.min, 1) / 8));
  axis.ticks = [];
  for (let at = Math.ceil(axis.min / step) * step; at <= axis.max; at += step) axis.ticks.push({ value: at });
}

// Draws the chart that `make` configures in the canvas `id`, and draws it anew when the colour scheme changes.
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

// With #check at the end of the address, a page notes in its dataset how many charts have more than axes on them: axes
// are grey, drawn data is coloured.
function isDrawn(drawing) {
  const { left, top, right, bottom } = drawing.chartArea, dots = devicePixelRatio;
  if (right - left < 1 || bottom - top < 1) return false;
  const { data: pixels } = drawing.ctx.getImageData(left * dots, top * dots, (right - left) * dots, (bottom - top) * dots);
  let coloured = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const parts = [pixels[i], pixels[i + 1], pixels[i + 2]];
    if (pixels[i + 3] > 99 && Math.max(...parts) - Math.min(...parts) > 40) coloured++;
  }
  return coloured > 20;
}
addEventListener('load', () => {
  if (location.hash !== '#check') return;
  const mark = document.documentElement.dataset;
  mark.charts = document.querySelectorAll('canvas').length;
  mark.chartsDrawn = [...charts.values()].filter(isDrawn).length;
  mark.dark = darkness.matches;
  mark.tooWide = document.documentElement.scrollWidth - innerWidth;
});
