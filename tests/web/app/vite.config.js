// As docs/previews.md says: Vite answers to no host that it was not told of.
export default { server: { port: 5173, strictPort: true, allowedHosts: [".preview.box.test"] } };
