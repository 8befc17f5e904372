/**
 * Starts the real aws-lambda-ric on the function in LAMBDA_TASK_ROOT.
 *
 * With FAAS_PHASE_MARKER=1 it writes one line to stdout just before the
 * function's own module is loaded, so that a cold start can be split into the
 * platform's part and the function's. The function sees none of it.
 */
import { writeSync } from 'node:fs';
import { run } from './node_modules/aws-lambda-ric/dist/index.mjs';

function mark() {
  writeSync(1, `\x1efaas:user-init ${process.hrtime.bigint()}\n`);
}

if (process.env.FAAS_PHASE_MARKER === '1') {
  delete process.env.FAAS_PHASE_MARKER;
  if (/^(1|true)$/.test(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA ?? '')) {
    mark();
  } else {
    // The client defines this global as its last act before it loads the module.
    Object.defineProperty(globalThis, 'awslambda', {
      configurable: true,
      set(value) {
        Object.defineProperty(globalThis, 'awslambda', {
          configurable: true, enumerable: true, writable: true, value,
        });
        mark();
      },
    });
  }
}

await run(process.env.LAMBDA_TASK_ROOT ?? '/var/task', process.env._HANDLER ?? '');
