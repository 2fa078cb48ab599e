// Bundles src/page.jsx and all of Grafana's components that it needs into one script: node build.mjs OUT.js
import { createRequire } from 'node:module';
import { build } from 'esbuild';

// Their CommonJS builds: in the others (.mjs) a default import of a CommonJS dependency is the module, not its default.
const commonjs = {
  name: 'commonjs',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^@grafana\// }, ({ path, importer }) => ({ path: createRequire(importer).resolve(path) })),
};

await build({
  entryPoints: [new URL('src/page.jsx', import.meta.url).pathname],
  outfile: process.argv[2],
  bundle: true,
  format: 'iife',
  platform: 'browser',
  plugins: [commonjs],
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl' },
  logLevel: 'warning',
});
