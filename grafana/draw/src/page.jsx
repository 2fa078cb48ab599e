// Draws one dashboard from window.PICTURE: { dashboard, window: {start, end}, answers: {panel id: [...]}, events: [...] }.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, makeTimeRange, dateTime, ThemeContext } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, Table, TimeSeries } from '@grafana/ui';
import { Heatmap, States } from './approximations.jsx';
import { numberField, seriesFrames, tableFrame } from './frames.js';

const { dashboard, window: range, answers, events, width, mode } = globalThis.PICTURE;
const theme = createTheme({ colors: { mode } });
const ROW = 38;
const GAP = 8;
const timeRange = makeTimeRange(dateTime(range.start * 1000), dateTime(range.end * 1000));

// Vertical lines where the dashboard's annotations are. In Grafana a plugin of its own draws them.
function drawEvents(config) {
  config.addHook('draw', (plot) => {
    const { ctx } = plot;
    for (const { at, colour } of events.filter(({ at }) => at >= range.start && at <= range.end)) {
      const x = plot.valToPos(at * 1000, 'x', true);
      ctx.save();
      ctx.strokeStyle = theme.visualization.getColorByName(colour);
      ctx.setLineDash([4, 4]);
      ctx.beginPath();
      ctx.moveTo(x, plot.bbox.top);
      ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
      ctx.stroke();
      ctx.restore();
    }
  });
  return null;
}

function Content({ panel, asked, table, width, height }) {
  switch (panel.type) {
    case 'stat': {
      const field = numberField(panel, asked, theme);
      const value = field.display(field.values[0]);
      const { colorMode, graphMode, textMode, justifyMode } = panel.options;
      return <BigValue {...{ width, height, theme, value, colorMode, graphMode, textMode, justifyMode }} />;
    }
    case 'timeseries':
      return (
        <TimeSeries
          frames={seriesFrames(panel, asked, theme)}
          {...{ width, height, timeRange }}
          timeZone="utc"
          legend={panel.options.legend}
          options={panel.options}
        >
          {(config) => drawEvents(config)}
        </TimeSeries>
      );
    case 'table':
      return table ? <Table data={table} {...{ width, height }} cellHeight="sm" /> : null;
    case 'state-timeline':
      return <States frames={seriesFrames(panel, asked, theme)} {...{ panel, width, height, theme }} window={range} />;
    case 'heatmap':
      return <Heatmap answers={asked} {...{ width, height, theme }} window={range} />;
    default:
      return <b>{panel.type}?</b>;
  }
}

function Panel({ panel, table }) {
  const { x = 0, y = 0, w, h } = panel.gridPos;
  const unit = width / 24;
  const size = { width: w * unit - GAP, height: h * ROW - GAP };
  const place = { position: 'absolute', left: x * unit + GAP / 2, top: y * ROW + GAP / 2 };
  if (panel.type === 'row') {
    return <h4 style={{ ...place, margin: 6 }}>{panel.title}</h4>;
  }
  const asked = answers[panel.id];
  const isEmpty = asked.every(({ result }) => result.length === 0);
  return (
    <div style={place} data-panel={panel.title}>
      <PanelChrome title={panel.title} description={panel.description} {...size}>
        {(innerWidth, innerHeight) =>
          isEmpty ? (
            <div style={{ padding: 24, textAlign: 'center' }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>
          ) : (
            <Content {...{ panel, asked, table }} width={innerWidth} height={innerHeight} />
          )
        }
      </PanelChrome>
    </div>
  );
}

async function main() {
  const tables = {};
  for (const panel of dashboard.panels) {
    if (panel.type === 'table' && answers[panel.id].some(({ result }) => result.length)) {
      tables[panel.id] = await tableFrame(panel, answers[panel.id], theme);
    }
  }
  const height = Math.max(...dashboard.panels.map(({ gridPos: { y = 0, h } }) => y + h)) * ROW;
  document.body.style.background = theme.colors.background.canvas;
  document.body.style.color = theme.colors.text.primary;
  createRoot(document.getElementById('page')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', width, height }}>
        {dashboard.panels.map((panel) => (
          <Panel key={panel.id} panel={panel} table={tables[panel.id]} />
        ))}
      </div>
    </ThemeContext.Provider>
  );
}

main().catch((error) => {
  document.body.textContent = `${error.stack}`;
});
