/**
 * An async handler in an ES module, run by the real aws-lambda-ric.
 * What it logs is tagged with the request id by the client itself.
 */
export async function handler(event) {
  const name = event.name ?? event.pathParameters?.proxy ?? 'world';
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!`, runtime: process.version };
}
