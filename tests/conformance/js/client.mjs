// The JavaScript OpenAI client against a running cluster: prints one JSON object of what it saw.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const prompt = "The capital of France is";
const seen = {};

seen.models = (await client.models.list()).data.map((model) => model.id);

const whole = await client.completions.create({ model: "demo", prompt, max_tokens: 12, temperature: 0 });
seen.text = whole.choices[0].text;
seen.usage = whole.usage;

seen.streamed = "";
const stream = await client.completions.create({ model: "demo", prompt, max_tokens: 12, temperature: 0, stream: true });
for await (const chunk of stream) seen.streamed += chunk.choices[0]?.text ?? "";

const messages = [{ role: "user", content: "What is the capital of Italy?" }];
const chat = await client.chat.completions.create({ model: "demo", messages, temperature: 0, max_tokens: 64 });
seen.chat = chat.choices[0].message.content;
seen.chatFinish = chat.choices[0].finish_reason;

seen.chatStreamed = "";
const chatStream = await client.chat.completions.create({
  model: "demo", messages, temperature: 0, max_tokens: 64, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of chatStream) {
  seen.chatStreamed += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) seen.chatUsage = chunk.usage;
}

try {
  await client.completions.create({ model: "absent", prompt });
} catch (failure) {
  seen.unknownModel = { status: failure.status, name: failure.constructor.name };
}

console.log(JSON.stringify(seen));
