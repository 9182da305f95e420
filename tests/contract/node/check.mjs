// Asks the gateway everything that the test wants to know, with OpenAI's client for Node, and
// prints the answers as one JSON object. What they must be is decided in tests/contract/test_node.py.
import OpenAI from 'openai';

const { GATEWAY_URL: baseURL, GATEWAY_KEY: apiKey, PLAN: plan } = process.env;
const { chat, slashed, embeddings, broken, tools } = JSON.parse(plan);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: 'user', content: 'Hi' }];
const found = {};

const whole = await client.chat.completions.create({ model: chat, messages }).withResponse();
found.whole = {
  text: whole.data.choices[0].message.content,
  requestId: whole.request_id,
  header: whole.response.headers.get('x-request-id'),
  backend: whole.response.headers.get('x-backend-used'),
};

const chunks = [];
const options = { include_usage: true };
const request = { model: chat, messages, stream: true, stream_options: options };
for await (const chunk of await client.chat.completions.create(request)) chunks.push(chunk);
found.stream = {
  text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''),
  roles: chunks.map((chunk) => chunk.choices[0]?.delta.role).filter(Boolean),
  finishes: chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean),
  usage: chunks.at(-1).usage,
  choicesOfLast: chunks.at(-1).choices.length,
};

const runner = client.chat.completions.stream({ model: chat, messages, tools });
const assembled = await runner.finalChatCompletion();
found.calls = assembled.choices[0].message.tool_calls.map((call) => ({
  id: call.id,
  name: call.function.name,
  arguments: JSON.parse(call.function.arguments),
}));

found.embeddings = {};
for (const model of embeddings) {
  const input = ['one', 'three'];
  const decoded = await client.embeddings.create({ model, input });
  const floats = await client.embeddings.create({ model, input, encoding_format: 'float' });
  found.embeddings[model] = {
    decoded: decoded.data.map((item) => item.embedding),
    floats: floats.data.map((item) => item.embedding),
  };
}

found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);
found.slashed = (await client.models.retrieve(slashed)).id;

const asError = (error) => ({
  kind: error.constructor.name,
  status: error.status,
  code: error.code,
  param: error.param,
  requestId: error.requestID,
});
found.unknown = await client.models.retrieve('no/such').then(() => null, asError);
const stranger = new OpenAI({ baseURL, apiKey: 'nobody', maxRetries: 0 });
found.stranger = await stranger.models.list().then(() => null, asError);

found.broken = { text: '', error: null };
try {
  const stream = await client.chat.completions.create({ model: broken, messages, stream: true });
  for await (const chunk of stream) found.broken.text += chunk.choices[0]?.delta.content ?? '';
} catch (error) {
  found.broken.error = { kind: error.constructor.name, code: error.code };
}

console.log(JSON.stringify(found));
