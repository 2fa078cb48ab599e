// Prometheus' answers as Grafana's data frames: names, units, colours and mappings of the panel put on.
import {
  FieldType,
  getDisplayProcessor,
  getFieldDisplayName,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((one) => ({
    id: one.id,
    name: one.name,
    transformation: async () => one,
  }))
);

const named = (legend, labels) => legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');

// Of one field: the panel's defaults, then what overrides it by its name.
function configOf(panel, name) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = structuredClone({ ...defaults, custom: defaults.custom ?? {} });
  for (const { matcher, properties } of overrides) {
    if (matcher.id !== 'byName' || matcher.options !== name) {
      continue;
    }
    for (const { id, value } of properties) {
      const place = id.startsWith('custom.') ? config.custom : config;
      place[id.replace('custom.', '')] = structuredClone(value);
    }
  }
  return config;
}

function dress(frames, panel, theme) {
  let index = 0;
  for (const frame of frames) {
    for (const field of frame.fields) {
      const name = getFieldDisplayName(field, frame, frames);
      const isValue = field.type === FieldType.number;
      field.config = { ...configOf(panel, name), ...field.config };
      // The first step of thresholds is written as null: JSON has no minus infinity.
      if (field.config.thresholds?.steps?.[0]?.value === null) {
        field.config.thresholds.steps[0].value = -Infinity;
      }
      field.state = { displayName: name, seriesIndex: isValue ? index++ : undefined };
      field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
      field.getLinks = () => [];
    }
  }
  return frames;
}

// A query's series, each a frame of times and numbers.
export function seriesFrames(panel, answers, theme) {
  const times = new Set();
  answers.forEach(({ result }) => result.forEach(({ values }) => values.forEach(([at]) => times.add(at))));
  const frames = answers.flatMap(({ ref, legend, step, result }) =>
    result.map(({ metric, values }) => {
      const at = [];
      const numbers = [];
      values.forEach(([moment, value], place) => {
        // Grafana's data source fills what is missing, so that a gap is a gap.
        if (place > 0 && moment - values[place - 1][0] > step) {
          at.push((values[place - 1][0] + step) * 1000);
          numbers.push(null);
        }
        at.push(moment * 1000);
        numbers.push(Number.isFinite(Number(value)) ? Number(value) : null);
      });
      return {
        refId: ref,
        length: at.length,
        fields: [
          { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: at },
          {
            name: 'Value',
            type: FieldType.number,
            labels: metric,
            config: { displayName: named(legend, metric) || 'Value' },
            values: numbers,
          },
        ],
      };
    })
  );
  return dress(frames, panel, theme);
}

// Of an instant query: one number, or null.
export function numberField(panel, answers, theme) {
  const value = answers[0].result[0]?.value[1];
  const frame = {
    length: 1,
    fields: [{ name: 'Value', type: FieldType.number, config: {}, values: [value === undefined ? null : Number(value)] }],
  };
  return dress([frame], panel, theme)[0].fields[0];
}

// Instant queries as one table, by Grafana's own transformations.
export async function tableFrame(panel, answers, theme) {
  const tables = answers.map(({ ref, result }) => {
    const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
    const column = (name, type, values) => ({ name, type, config: {}, values });
    return {
      refId: ref,
      length: result.length,
      fields: [
        column('Time', FieldType.time, result.map(({ value }) => value[0] * 1000)),
        ...labels.map((label) => column(label, FieldType.string, result.map(({ metric }) => metric[label]))),
        column(answers.length > 1 ? `Value #${ref}` : 'Value', FieldType.number, result.map(({ value }) => Number(value[1]))),
      ],
    };
  });
  const frames = await firstValueFrom(transformDataFrame(panel.transformations ?? [], tables));
  return dress(frames, panel, theme)[0];
}
