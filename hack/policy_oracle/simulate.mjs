// Asks @cloud-copilot/iam-simulate for its verdict on each case of standard input; adds `verdicts` to each line.
// Run in a folder where that package is installed; see README.md beside this file.
import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const WORDS = { Allowed: 'Allowed', ImplicitlyDenied: 'ImplicitDeny', ExplicitlyDenied: 'ExplicitDeny' }

for await (const line of createInterface({ input: process.stdin })) {
  const one = JSON.parse(line)
  const verdicts = []
  for (const request of one.requests) {
    const answer = await runSimulation({
      request: {
        principal: 'arn:aws:iam::111122223333:user/anna',
        action: request.action,
        resource: { resource: request.resource, accountId: '111122223333' },
        contextVariables: request.context,
      },
      identityPolicies: [{ name: 'p', policy: one.document }],
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    }, {})
    const result = answer.overallResult ?? answer.analysis?.result ?? answer.result?.evaluationResult
    if (WORDS[result] === undefined) console.error(JSON.stringify(answer).slice(0, 400))
    verdicts.push(WORDS[result] ?? 'Error')
  }
  console.log(JSON.stringify({ ...one, verdicts }))
}
