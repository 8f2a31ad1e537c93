"""The official clients and agent frameworks drive the endpoint: a conversation of two turns with two parallel calls,
streamed and not, on real chat templates.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NO_SHARED, ROOT, shared_folder

TEMPLATES = [
    "ByteDance-Seed-OSS",
    "GLM-4.6",
    "Kimi-K2-Instruct",
    "MiniMax-M2",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "deepseek-ai-DeepSeek-V3.1",
    "google-gemma-4-31B-it",
    "ibm-granite-granite-4.0",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "tool_chat_template_llama4_pythonic",
    "tool_chat_template_xlam_qwen",
]

FOUND = {"Oslo": "rain over Oslo", "Rome": "sun over Rome"}
CALLS = [{"name": "get_weather", "arguments": {"city": city, "days": 2}} for city in FOUND]
QUESTION = "How will the weather be in Oslo and in Rome?"
ANSWER = "Rain there, sun here."
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The forecast.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


def get_weather(city: str, days: int = 1) -> str:
    """The forecast.

    Args:
        city: The city's name.
        days: For how many days.
    """
    assert days == 2
    return FOUND[city]


def needs(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[test-serve]'")


@pytest.fixture(scope="module", params=TEMPLATES)
def weather(request: pytest.FixtureRequest, endpoint: Callable[..., Any]) -> Any:
    """An endpoint whose model asks for two forecasts, and answers when it has them."""
    folder = shared_folder()
    if folder is None:
        pytest.skip(NO_SHARED)
    template = (folder / "templates" / f"{request.param}.jinja").read_text("utf-8")

    def turn(prompt: Any) -> str:
        text = served.tokenizer.decode(list(prompt))
        if all(result in text for result in FOUND.values()):
            assert text.index(FOUND["Oslo"]) < text.index(FOUND["Rome"])
            return str(served.model.parser.render(content=ANSWER))
        assert QUESTION in text
        return str(served.model.parser.render(CALLS))

    served = endpoint(template, turn)
    return served


def check(served: Any, answer: str) -> None:
    assert answer.strip() == ANSWER
    last = served.prompt()
    for call in CALLS:  # the calls of the first turn are in the second prompt, as the template writes them
        assert last.count(call["arguments"]["city"]) >= 2


# ------------------------------------------------------------------------------------------------- the openai client


def openai_client(served: Any) -> Any:
    needs("openai")
    import openai

    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=30)


def conversation(ask: Callable[[list[Any]], Any]) -> str:
    """Two turns: the client's own message objects go back as they came."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    message = ask(messages)
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [call["arguments"] for call in CALLS]
    messages.append(message.to_dict())
    for call in message.tool_calls:
        arguments = json.loads(call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": get_weather(**arguments)})
    last = ask(messages)
    assert not last.tool_calls
    return str(last.content)


@pytest.mark.parametrize("streamed", [False, True])
def test_openai(weather: Any, streamed: bool) -> None:
    completions = openai_client(weather).chat.completions

    def ask(messages: list[Any]) -> Any:
        body: Any = {"model": "tiny", "messages": messages, "tools": [TOOL]}
        if streamed:
            with completions.stream(**body) as stream:
                answer = stream.get_final_completion()
        else:
            answer = completions.create(**body)
        (choice,) = answer.choices
        assert choice.finish_reason == ("tool_calls" if choice.message.tool_calls else "stop")
        return choice.message

    check(weather, conversation(ask))


@pytest.mark.parametrize("streamed", [False, True])
def test_openai_responses(weather: Any, streamed: bool) -> None:
    client = openai_client(weather)
    tool = {"type": "function", "strict": False, **TOOL["function"]}
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    for calls in (2, 0):
        body: Any = {"model": "tiny", "input": items, "tools": [tool]}
        if streamed:
            with client.responses.stream(**body) as stream:
                answer = stream.get_final_response()
        else:
            answer = client.responses.create(**body)
        assert answer.status == "completed"
        items += [item.to_dict() for item in answer.output]
        asked = [item for item in answer.output if item.type == "function_call"]
        assert len(asked) == calls
        for item in asked:
            result = get_weather(**json.loads(item.arguments))
            items.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
    check(weather, answer.output_text)


# ---------------------------------------------------------------------------------------------- the anthropic client


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic(weather: Any, streamed: bool) -> None:
    needs("anthropic")
    import anthropic

    client = anthropic.Anthropic(base_url=weather.url, api_key="none", max_retries=0, timeout=30)
    function = TOOL["function"]
    tool = {"name": function["name"], "description": "The forecast.", "input_schema": function["parameters"]}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    for stop in ("tool_use", "end_turn"):
        body: Any = {"model": "tiny", "max_tokens": 2000, "messages": messages, "tools": [tool]}
        if streamed:
            with client.messages.stream(**body) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(**body)
        assert answer.stop_reason == stop
        assert answer.usage.output_tokens > 0
        messages.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        uses = [block for block in answer.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": get_weather(**use.input)} for use in uses]
        messages.append({"role": "user", "content": results})
    assert len([block for block in messages[1]["content"] if block["type"] == "tool_use"]) == 2
    check(weather, "".join(block.text for block in answer.content if block.type == "text"))


# ------------------------------------------------------------------------------------------------------- frameworks


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", ["OpenAIChatCompletionsModel", "OpenAIResponsesModel"])
def test_openai_agents(weather: Any, api: str, streamed: bool) -> None:
    needs("agents", "openai")
    import agents
    import openai

    agents.set_tracing_disabled(True)

    async def run() -> str:
        client = openai.AsyncOpenAI(base_url=f"{weather.url}/v1", api_key="none", max_retries=0, timeout=30)
        model = getattr(agents, api)("tiny", client)
        agent = agents.Agent("forecaster", model=model, tools=[agents.function_tool(get_weather, strict_mode=False)])
        if not streamed:
            return str((await agents.Runner.run(agent, QUESTION, max_turns=3)).final_output)
        running = agents.Runner.run_streamed(agent, QUESTION, max_turns=3)
        async for _ in running.stream_events():
            pass
        return str(running.final_output)

    check(weather, asyncio.run(run()))


@pytest.mark.parametrize("streamed", [False, True])
def test_pydantic_ai(weather: Any, streamed: bool) -> None:
    needs("pydantic_ai", "openai")
    from pydantic_ai import Agent, Tool
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"{weather.url}/v1", api_key="none")
    agent = Agent(OpenAIChatModel("tiny", provider=provider), tools=[Tool(get_weather, strict=False)])

    async def run() -> str:
        if not streamed:
            return str((await agent.run(QUESTION)).output)
        async with agent.run_stream(QUESTION) as running:
            return str(await running.get_output())

    check(weather, asyncio.run(run()))


@pytest.mark.parametrize("streamed", [False, True])
def test_langchain(weather: Any, streamed: bool) -> None:
    needs("langchain_openai")
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    forecast = tool(get_weather)
    model = ChatOpenAI(base_url=f"{weather.url}/v1", api_key="none", model="tiny", max_retries=0).bind_tools([forecast])
    messages: list[Any] = [HumanMessage(QUESTION)]
    for _ in range(2):
        if streamed:
            pieces = list(model.stream(messages))
            message = pieces[0]
            for piece in pieces[1:]:
                message = message + piece
        else:
            message = model.invoke(messages)
        messages.append(message)
        messages += [forecast.invoke(call) for call in message.tool_calls]
    check(weather, str(messages[-1].content))


# ------------------------------------------------------------------------------------------------------ from node.js

SCRIPT = """
import OpenAI from "openai";
const [baseURL, question, tools, results] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const found = JSON.parse(results);
for (const streamed of [false, true]) {
  const messages = [{ role: "user", content: question }];
  for (;;) {
    const body = { model: "tiny", messages, tools: JSON.parse(tools) };
    const message = streamed
      ? await client.chat.completions.stream(body).finalMessage()
      : (await client.chat.completions.create(body)).choices[0].message;
    messages.push(message);
    if (!message.tool_calls?.length) { console.log(message.content); break; }
    for (const call of message.tool_calls) {
      const { city } = JSON.parse(call.function.arguments);
      messages.push({ role: "tool", tool_call_id: call.id, content: found[city] });
    }
  }
}
"""


def test_openai_for_node(weather: Any) -> None:
    folder = ROOT / ".cache" / "node"
    if not (folder / "node_modules" / "openai").is_dir():
        pytest.skip("no openai for node: npm install --prefix .cache/node openai")
    script = Path(folder, "conversation.mjs")
    script.write_text(SCRIPT, encoding="utf-8")
    arguments = [f"{weather.url}/v1", QUESTION, json.dumps([TOOL]), json.dumps(FOUND)]
    done = subprocess.run(
        ["node", str(script), *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=folder
    )
    assert done.stdout.split("\n")[:2] == [ANSWER, ANSWER], done.stderr
    check(weather, ANSWER)
