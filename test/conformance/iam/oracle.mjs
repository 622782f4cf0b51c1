// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Reads one JSON object a line, {policy, principal, action, resource, account, context},
// asks the simulator what the resource policy says, and answers one JSON object a
// line in the same order: {decision} or {error}. A null principal is anonymous.

import { createInterface } from 'node:readline'
import { anonymousPrincipal, runSimulation } from '@cloud-copilot/iam-simulate'

async function decide(q) {
  const answer = await runSimulation(
    {
      request: {
        principal: q.principal ?? anonymousPrincipal,
        action: q.action,
        resource: { resource: q.resource, accountId: q.account },
        contextVariables: q.context,
      },
      identityPolicies: [],
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      resourcePolicy: q.policy,
    },
    {},
  )
  if (answer.resultType === 'error') return { error: JSON.stringify(answer.errors) }
  if (answer.resultType !== 'single') return { error: 'result is ' + answer.resultType }
  const ignored = answer.result.ignoredContextKeys ?? []
  if (ignored.length > 0) return { error: 'ignored keys ' + ignored.join(' ') }
  return { decision: answer.result.analysis.resourceAnalysis.result }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    answer = await decide(JSON.parse(line))
  } catch (e) {
    answer = { error: 'thrown: ' + e.message }
  }
  if (!process.stdout.write(JSON.stringify(answer) + '\n')) {
    await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
}
