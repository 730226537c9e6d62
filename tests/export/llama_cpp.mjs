// Prints what llama.cpp makes of a GGUF file: the tokens of texts, and a greedy continuation.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const [folder, file, texts, prompt] = process.argv.slice(2);
const place = createRequire(`${folder}/package.json`).resolve("node-llama-cpp");
const {getLlama, LlamaCompletion} = await import(pathToFileURL(place));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: file});
const tokens = JSON.parse(texts).map((text) => Array.from(model.tokenize(text)));
const context = await model.createContext({contextSize: 512, threads: 1});
const completion = new LlamaCompletion({contextSequence: context.getSequence()});
const text = await completion.generateCompletion(prompt, {maxTokens: 12, temperature: 0});
console.log(JSON.stringify({tokens, text}));
process.exit(0);
