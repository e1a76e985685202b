// Draws the charts of lines and bars and the heat maps that the page's data describes.

const formats = {
  bytes,
  count: n => Number.isInteger(n) ? n.toLocaleString('en') : String(+n.toPrecision(4)),
  seconds: n => {
    if (n < 0) return '-' + formats.seconds(-n);
    if (n === 0) return '0 s';
    if (n >= 3600) return (n / 3600).toFixed(1) + ' h';
    if (n >= 120) return (n / 60).toFixed(1) + ' min';
    const [scale, unit] = n < 1e-6 ? [1e9, 'ns'] : n < 1e-3 ? [1e6, 'µs'] : n < 1 ? [1e3, 'ms'] : [1, 's'];
    return +(n * scale).toPrecision(3) + ' ' + unit;
  },
  share: n => +(100 * n).toPrecision(3) + ' %',
  times: n => +n.toPrecision(4) + ' ×',
};
const shown = (n, unit) => n === null || n === undefined || Number.isNaN(n) ? '?' : formats[unit](n);

// Puts the ticks of a logarithmic axis at powers of four for bytes and of ten otherwise, few enough to be read. A short
// axis has ticks between them.
function logTicks(unit) {
  return axis => {
    const base = unit === 'bytes' ? 4 : 10;
    let first = Math.ceil(Math.log(axis.min) / Math.log(base) - 1e-9), last = Math.floor(Math.log(axis.max) / Math.log(base) + 1e-9);
    let marks = [];
    for (let power = first; power <= last; power++) marks.push(base ** power);
    const step = Math.ceil(marks.length / 9);
    marks = marks.filter((mark, i) => i % step === 0);
    if (marks.length < 3) {
      marks = [];
      for (let power = first - 1; power <= last; power++) {
        for (const part of base === 4 ? [1, 2] : [1, 2, 5]) {
          const mark = part * base ** power;
          if (mark >= axis.min && mark <= axis.max) marks.push(mark);
        }
      }
    }
    axis.ticks = marks.map(value => ({ value }));
  };
}

function scale(axis, range) {
  const { title, unit, log } = axis;
  const result = { type: log ? 'logarithmic' : 'linear', title: { display: title !== '', text: title },
    ticks: { callback: n => shown(n, unit), maxRotation: 0, autoSkipPadding: 12 } };
  if (log) result.afterBuildTicks = logTicks(unit);
  else if (unit === 'bytes') result.afterBuildTicks = byteTicks;
  if (range) Object.assign(result, range);
  return result;
}

// The ends of a logarithmic axis. The library would put them at powers of ten.
function logRange(values, unit, air) {
  const known = values.filter(n => n > 0);
  if (known.length === 0) return { min: 1, max: 10 };
  let min = Math.min(...known), max = Math.max(...known);
  if (air) { min /= 1.3; max *= 1.3; }
  if (max / min < 4) { min /= 2; max *= 2; }
  return { min, max };
}

// On a logarithmic axis only values above zero have a place.
const placed = (n, axis) => n === null || axis.log && n <= 0 ? null : n;

function band(spec, series, paint) {
  if (series.band.length < 2) return [];
  const edge = { borderWidth: 0, pointRadius: 0, pointHitRadius: 0, backgroundColor: paint + '38', isBand: true, order: 2, label: 'band' };
  return [{ ...edge, data: series.band.map(([x, low]) => ({ x, y: placed(low, spec.y) })), fill: '+1' },
          { ...edge, data: series.band.map(([x, low, high]) => ({ x, y: placed(high, spec.y) })) }];
}

// Whether a line shows what was measured, not a model or a limit.
const isMeasured = series => series.style === 'line' || series.style === 'peer';

function line(spec, series, paint) {
  const few = spec.series.every(s => s.points.length <= 24);
  const marked = c => spec.marked !== null && c.raw && c.raw.x === spec.marked && series.style === 'line';
  return { label: series.name, data: series.points.map(([x, y]) => ({ x, y: placed(y, spec.y) })), seriesStyle: series.style,
    borderColor: paint, backgroundColor: paint, borderWidth: isMeasured(series) ? 2 : 1.5, spanGaps: false, clip: 10,
    order: isMeasured(series) ? 1 : 0,  // dashes are drawn over the lines that they run along
    borderDash: { model: [6, 4], limit: [2, 3], peer: [7, 2, 2, 2] }[series.style] ?? [],
    pointStyle: c => marked(c) ? 'rectRot' : 'circle',
    pointRadius: c => marked(c) ? 8 : series.style === 'line' && few ? 3 : 0, pointHitRadius: 8 };
}

const legend = spec => ({ display: spec.series.length > 1 || spec.series[0]?.name !== '', position: 'bottom',
  labels: { boxWidth: 18, boxHeight: 2, filter: (item, all) => !all.datasets[item.datasetIndex].isBand } });

// Lines of a family have shades of one colour, which no other line has.
function paints(spec) {
  const teal = 6, family = spec.series.some(series => series.shade !== null);
  let others = 0;
  const next = () => { const i = others++; return colour(family && i >= teal ? i + 1 : i); };
  return spec.series.map(({ shade }) => shade === null ? next() :
    `hsl(176, 55%, ${Math.round(darkness.matches ? 84 - 50 * shade : 74 - 52 * shade)}%)`);
}

// Makes a chart with many lines or bars high enough for them and for their names.
function makeRoom(id, lines, each) {
  const canvas = document.getElementById(id);
  if (lines * each > 20) canvas.parentElement.style.height = lines * each + 'em';
}

function drawLines(id, spec) {
  makeRoom(id, Math.min(spec.series.length, 20) + 9, 1.1);
  chart(id, () => {
    const paint_of = paints(spec);
    const datasets = spec.series.flatMap((series, i) => {
      const paint = paint_of[i];
      return [line(spec, series, paint), ...band(spec, series, paint)];
    });
    const xs = spec.series.flatMap(s => s.points.map(p => p[0]));
    const ys = spec.series.flatMap(s => [...s.points.map(p => p[1]), ...s.band.flatMap(b => [b[1], b[2]])]);
    const tooltip = { filter: item => !item.dataset.isBand, itemSort: (a, b) => b.parsed.y - a.parsed.y, callbacks: {
      title: items => items.length ? spec.x.title + ': ' + shown(items[0].parsed.x, spec.x.unit) : '',
      label: c => (c.dataset.label || spec.y.title) + ': ' + shown(c.parsed.y, spec.y.unit) } };
    return { type: 'line', data: { datasets }, options: {
      parsing: false, normalized: true, interaction: { mode: 'x', intersect: false, axis: 'x' },
      plugins: { legend: legend(spec), tooltip },
      scales: { x: scale(spec.x, spec.x.log ? logRange(xs) : { grace: 0 }),
                y: scale(spec.y, spec.y.log ? logRange(ys, spec.y.unit, true) : { beginAtZero: true, grace: '4%' }) } } };
  });
}

function drawBars(id, spec) {
  makeRoom(id, spec.labels.length + 5, 1.25);
  chart(id, () => {
    const ys = spec.series.flatMap(s => s.points.map(p => p[1]));
    const range = spec.y.log ? logRange(ys, spec.y.unit, true) : { beginAtZero: true };
    const height = 6 + spec.labels.length * (spec.series.length + 1) * .8;  // a bar is at least as high as small print
    document.getElementById(id).parentElement.style.height = Math.max(20, height) + 'em';
    if (spec.y.log) range.min /= 2;  // so that the shortest bar has a length
    const datasets = spec.series.map((series, i) => ({ label: series.name, backgroundColor: colour(i), maxBarThickness: 26,
      data: spec.labels.map((label, at) => placed(series.points.find(p => p[0] === at)?.[1] ?? null, spec.y)) }));
    const label = c => (c.dataset.label || spec.y.title) + ': ' +
      shown(spec.series[c.datasetIndex].points.find(p => p[0] === c.dataIndex)?.[1], spec.y.unit);
    return { type: 'bar', data: { labels: spec.labels, datasets }, options: { indexAxis: 'y',
      interaction: { mode: 'index', axis: 'y', intersect: false },
      plugins: { legend: { ...legend(spec), labels: { boxWidth: 18, boxHeight: 10 } }, tooltip: { callbacks: { label } } },
      scales: { x: scale(spec.y, range), y: { grid: { display: false }, ticks: { autoSkip: false } } } } };
  });
}

// The colours of shares: the page's for nothing, then hotter and hotter.
function heatStops() {
  return darkness.matches ? [[42, 48, 56], [138, 74, 32], [242, 140, 50], [255, 226, 150]]
                          : [[243, 240, 232], [248, 190, 110], [214, 96, 30], [112, 22, 18]];
}
function heatColour(share) {
  const stops = heatStops(), at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  const mix = k => Math.round(stops[i][k] + (stops[i + 1][k] - stops[i][k]) * (at - i));
  return `rgb(${mix(0)}, ${mix(1)}, ${mix(2)})`;
}

// A chart type that Chart.js lacks: a grid of cells, each from `x` to `end` and one row high.
class HeatCell extends Chart.Element {
  static id = 'heatCell';
  static defaults = {};
  inRange(x, y) { return x >= this.x && x < this.x + this.width && y >= this.y && y < this.y + this.height; }
  inXRange(x) { return x >= this.x && x < this.x + this.width; }
  inYRange(y) { return y >= this.y && y < this.y + this.height; }
  getCenterPoint() { return { x: this.x + this.width / 2, y: this.y + this.height / 2 }; }
  tooltipPosition() { return this.getCenterPoint(); }
  draw(context) {
    context.fillStyle = this.paint;
    context.fillRect(this.x, this.y, this.width, this.height);
  }
}
class HeatController extends Chart.DatasetController {
  static id = 'heat';
  static defaults = { dataElementType: 'heatCell' };
  update(mode) { this.updateElements(this._cachedMeta.data, 0, this._cachedMeta.data.length, mode); }
  updateElements(cells, start, count) {
    const { xScale, yScale } = this._cachedMeta;
    for (let i = start; i < start + count; i++) {
      const cell = this.getDataset().data[i];
      // Rounded to whole pixels, or there would be seams between neighbours.
      const across = x => Math.round(xScale.getPixelForValue(x)), down = y => Math.round(yScale.getPixelForValue(y));
      const left = across(cell.x), top = down(cell.y + 1);
      Object.assign(cells[i], { x: left, y: top, width: across(cell.end) - left, height: down(cell.y) - top,
        paint: heatColour(cell.share) });
    }
  }
}
Chart.register(HeatCell, HeatController);

function drawHeat(id, map) {
  const canvas = document.getElementById(id);
  canvas.parentElement.style.height = Math.max(12, 5 + Math.min(map.rows.length, 64) * .5) + 'em';
  const times = map.times, gap = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 1;
  const end = i => i + 1 < times.length ? times[i + 1] : times[i] + gap;
  const cells = map.rows.flatMap((row, y) => row.shares.flatMap((share, i) =>
    share === null ? [] : [{ x: times[i], end: end(i), y, share }]));
  // Ranges of a row or two have no room for every name: names closer than `apart` rows are left out.
  const apart = 15 * map.rows.length / (canvas.parentElement.clientHeight - 60);
  const begins = [];
  map.rows.forEach((row, i) => { if (row.begins && !(i - begins[begins.length - 1] < apart)) begins.push(i); });
  chart(id, () => {
    const ramp = [0, .33, .67, 1].map(heatColour).join(', ');
    canvas.closest('section').querySelector('.heat').style.background = `linear-gradient(90deg, ${ramp})`;
    const tooltip = { displayColors: false, callbacks: {
      title: items => items.length ? map.rows[items[0].raw.y].label : '',
      label: c => shown(c.raw.share, 'share') + ' copied, at ' + shown(c.raw.x, 'seconds') } };
    return { type: 'heat', data: { datasets: [{ data: cells }] }, options: { parsing: false, normalized: true,
      interaction: { mode: 'nearest', intersect: true }, plugins: { legend: { display: false }, tooltip },
      scales: { x: { type: 'linear', min: times[0], max: end(times.length - 1), grid: { display: false },
                     title: { display: true, text: 'seconds since the watch began' },
                     ticks: { callback: n => shown(n, 'seconds'), maxRotation: 0, autoSkipPadding: 12 } },
                y: { type: 'linear', min: 0, max: map.rows.length, grid: { z: 1, color: variable('--page'), lineWidth: 2 },
                     title: { display: canvas.parentElement.clientWidth > 500, text: 'address' },
                     afterBuildTicks: axis => { axis.ticks = begins.map(value => ({ value })); },
                     ticks: { autoSkip: false, callback: i => {
                       const [address, ...name] = map.rows[i].label.split(' ');
                       return canvas.parentElement.clientWidth > 700 ? address + ' ' + name.join(' ').slice(-28) : address;
                     } } } } } };
  });
}

data.charts.forEach((spec, i) => (spec.labels.length ? drawBars : drawLines)('chart' + i, spec));
data.heat.forEach((map, i) => drawHeat('heat' + i, map));
