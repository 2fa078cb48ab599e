// Stand-ins for what is not on npm: state timeline and heatmap. They show the data, the mappings and the names that
// Grafana would show; not its drawing.
import React from 'react';

const AXIS = 22;
const LEGEND = 22;

const seconds = (value) => (value === null ? '' : value < 1 ? `${+(value * 1000).toPrecision(3)} ms` : `${value} s`);
const clock = (at) => new Date(at * 1000).toISOString().slice(11, 16);

function TimeAxis({ window: { start, end }, left, width, y, theme }) {
  const marks = [];
  const apart = Math.ceil((end - start) / (width / 60) / 60) * 60;
  for (let at = Math.ceil(start / apart) * apart; at <= end; at += apart) {
    marks.push(at);
  }
  return marks.map((at) => (
    <text
      key={at}
      x={left + ((at - start) / (end - start)) * width}
      y={y}
      textAnchor={at > end - 60 ? 'end' : 'middle'}
      fontSize={12}
      fill={theme.colors.text.secondary}
    >
      {clock(at)}
    </text>
  ));
}

export function States({ panel, frames, window, width, height, theme }) {
  const rows = [...frames].sort((one, two) => one.fields[1].state.displayName.localeCompare(two.fields[1].state.displayName));
  const left = 20 + 7 * Math.max(...rows.map((row) => row.fields[1].state.displayName.length));
  const inner = width - left - 10;
  const step = (height - AXIS - LEGEND) / rows.length;
  const x = (at) => left + (Math.max(0, at / 1000 - window.start) / (window.end - window.start)) * inner;
  const used = new Map();
  const bars = rows.flatMap((frame, place) => {
    const [times, values] = frame.fields;
    const spans = [];
    times.values.forEach((at, index) => {
      const value = values.values[index];
      const last = spans.at(-1);
      if (last && last.value === value) {
        last.end = at;
      } else {
        if (last) {
          last.end = at;
        }
        spans.push({ value, start: at, end: at });
      }
    });
    return spans
      .filter(({ value }) => value !== null)
      .map(({ value, start, end }) => {
        const shown = values.display(value);
        used.set(shown.text, shown.color);
        const span = Math.max(1, x(end) - x(start));
        return (
          <g key={`${place}-${start}`}>
            <rect x={x(start)} y={place * step + 2} width={span} height={step * 0.8} fill={shown.color} opacity={0.75} />
            {span > 60 && step > 14 && (
              <text x={x(start) + 5} y={place * step + step * 0.4 + 7} fontSize={12} fill={theme.colors.text.primary}>
                {shown.text}
              </text>
            )}
          </g>
        );
      });
  });
  return (
    <svg width={width} height={height}>
      {rows.map((frame, place) => (
        <text key={place} x={left - 8} y={place * step + step * 0.4 + 7} textAnchor="end" fontSize={12} fill={theme.colors.text.primary}>
          {frame.fields[1].state.displayName}
        </text>
      ))}
      {bars}
      <TimeAxis window={window} left={left} width={inner} y={height - LEGEND - 6} theme={theme} />
      {[...used].map(([text, colour], place) => (
        <g key={text} transform={`translate(${10 + place * 90}, ${height - 14})`}>
          <rect width={14} height={4} y={3} fill={colour} />
          <text x={20} y={9} fontSize={12} fill={theme.colors.text.primary}>
            {text}
          </text>
        </g>
      ))}
    </svg>
  );
}

// Prometheus' buckets are cumulative; a cell is a bucket less the one below it.
export function Heatmap({ answers, window, width, height, theme }) {
  const { result, step } = answers[0];
  const bounds = result
    .map(({ metric, values }) => ({ le: metric.le === '+Inf' ? null : Number(metric.le), at: new Map(values) }))
    .sort((one, two) => (one.le ?? Infinity) - (two.le ?? Infinity));
  const cells = [];
  bounds.forEach(({ le, at }, place) => {
    for (const [moment, value] of at) {
      const below = place > 0 ? Number(bounds[place - 1].at.get(moment) ?? 0) : 0;
      if (Number(value) - below > 1e-9) {
        cells.push({ le, place, moment, count: Number(value) - below });
      }
    }
  });
  const left = 70;
  const inner = width - left - 10;
  const row = (height - AXIS) / bounds.length;
  const column = (inner * step) / (window.end - window.start);
  const most = Math.max(1, ...cells.map(({ count }) => count));
  const y = (place) => (bounds.length - 1 - place) * row;
  return (
    <svg width={width} height={height}>
      {bounds.map(({ le }, place) =>
        place % 3 === 0 ? (
          <text key={place} x={left - 6} y={y(place) + 4} textAnchor="end" fontSize={12} fill={theme.colors.text.secondary}>
            {le === null ? 'more' : seconds(le)}
          </text>
        ) : null
      )}
      <rect x={left} y={0} width={inner} height={height - AXIS} fill="none" stroke={theme.colors.border.weak} />
      {cells.map(({ place, moment, count }) => (
        <rect
          key={`${place}-${moment}`}
          x={left + ((moment - step - window.start) / (window.end - window.start)) * inner}
          y={y(place)}
          width={Math.max(3, column - 1)}
          height={Math.max(2, row - 1)}
          fill={theme.visualization.getColorByName('orange')}
          opacity={0.4 + 0.6 * Math.sqrt(count / most)}
        />
      ))}
      <TimeAxis window={window} left={left} width={inner} y={height - 6} theme={theme} />
    </svg>
  );
}
