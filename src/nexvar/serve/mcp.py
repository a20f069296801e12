"""Eight tools for assistants, by the Model Context Protocol: `nexvar mcp` on stdio, and /mcp of a running server.

    assistant ── SDK ── checks of the arguments ── tools.py, in the model thread where a model is needed ── small JSON

The server is opened, and its models are loaded, with the first call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Route

from nexvar import __version__, cards
from nexvar.errors import RESEARCH_ONLY, NexVarError, printable
from nexvar.serve import tools
from nexvar.serve.errors import body_of
from nexvar.serve.running import finished
from nexvar.serve.settings import Settings
from nexvar.serve.state import Server
from nexvar.serve.worker import Ticket
from nexvar.weights.load import Loaded
from nexvar.weights.sources import as_folder

T = TypeVar("T")
HTTP_REQUEST: ContextVar[Request | None] = ContextVar("HTTP_REQUEST", default=None)  # whose client may leave
INSTRUCTIONS = f"""NexVar runs genomic foundation models on this machine; nothing leaves it. {RESEARCH_ONLY}
Positions in variants and regions are 1-based. Begin with list_models; find_region turns a gene into a region."""

Model = Annotated[str | None, Field(max_length=200, description="a loaded model's name; default: the first that can")]
GenomeId = Annotated[str | None, Field(max_length=64, description="a genome's id; default: the first")]
Variants = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1000)]],
    Field(
        min_length=1, max_length=tools.MOST_VARIANTS, description="such as chrM:3243A>G; HGVS and SPDI are read, too"
    ),
]
Sequences = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1_000_000)]],
    Field(min_length=1, max_length=tools.MOST_SEQUENCES, description="A, C, G, T and N"),
]


class Desk:
    """Where tools get their work done: a server, opened by ``open`` when it is first needed."""

    def __init__(self, open: Callable[[], Server]) -> None:
        self._open, self._lock = open, threading.Lock()
        self._server: Server | None = None

    def server(self) -> Server:
        with self._lock:
            self._server = self._server or self._open()
            return self._server

    def close(self) -> None:
        with self._lock:
            if self._server is not None:
                self._server.close()

    async def ask(self, verb: Callable[[Server], T]) -> T:
        """``verb(server)``, which needs no model, in another thread."""
        try:
            return await run_in_threadpool(lambda: verb(self.server()))
        except NexVarError as error:
            raise ToolError(body_of(error)["error"]) from error

    async def compute(self, name: str | None, objective: str | None, verb: Callable[[Server, Loaded], T]) -> T:
        """``verb(server, model)`` in the model thread; stopped between two forwards when nobody waits any more."""
        try:
            server = await run_in_threadpool(self.server)
            found = server.models.find(name, objective)

            def work(ticket: Ticket) -> T:
                with server.models.using(found, ticket) as loaded:
                    return verb(server, loaded)

            task = server.thread.submit(work, seconds=server.settings.seconds)
            if (request := HTTP_REQUEST.get()) is not None:
                return await finished(request, task)
            try:
                return await asyncio.shield(asyncio.wrap_future(task.future))
            finally:
                task.cancel()
        except NexVarError as error:
            raise ToolError(body_of(error)["error"]) from error


class _Server(MCPServer):
    """Arguments are refused in one line that names the first that is wrong; unknown ones, too."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None) -> Any:
        known = self._tool_input_schema(name)
        if known is not None and (unknown := sorted(set(arguments) - set(known.get("properties", {})))):
            raise ToolError(f"{printable(unknown[0], 60)}: there is no such argument: {', '.join(known['properties'])}")
        HTTP_REQUEST.set(None if context is None else context.request_context.request)
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            first = error.__cause__.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ToolError(printable(f"{place}: {first['msg']}", 300)) from None


def build(desk: Desk) -> MCPServer:
    """The tools, over the server of ``desk``."""
    server = _Server("nexvar", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")

    @server.tool()
    async def list_models() -> tools.Listed:
        """Loaded models and genomes, and the names of models that could be loaded.

        USE WHEN you do not know yet which model or genome to name. context: bases a model reads at most; objective:
        causal models generate, masked ones fill in; species: what a model knows, if not all of biology.
        """
        return await desk.ask(tools.list_models)

    @server.tool()
    async def find_region(
        query: Annotated[str, Field(min_length=1, max_length=1000)], genome: GenomeId = None
    ) -> tools.Found:
        """Where a gene, a variant or a region lies: at most ten places, regions 1-based.

        USE WHEN a user names a gene and another tool needs a region. near: like symbols, when nothing was found.
        """
        return await desk.ask(lambda server: tools.find_region(server, query, genome))

    @server.tool()
    async def score_variants(variants: Variants, genome: GenomeId = None, model: Model = None) -> tools.Scored:
        """The effect of up to 50 variants on the likelihood of their sequence, by the model's own score.

        USE WHEN a user asks how a model sees variants. DO NOT USE for more than 50: score_vcf.
        INTERPRETATION: a log-ratio of likelihoods, alternative over reference (provenance.readout says which): below 0
        the model finds the change less likely. Compare scores of one model, readout and genome only; there is no
        threshold. A variant without a score has a status that says why, such as REF_MISMATCH.
        Research output, not a diagnosis.
        """
        return await desk.compute(model, None, lambda s, loaded: tools.score_variants(s, loaded, variants, genome))

    @server.tool()
    async def saturate(
        region: Annotated[str, Field(min_length=1, max_length=300, description="such as chrM:3,230-3,304, 1-based")],
        genome: GenomeId = None,
        model: Model = None,
    ) -> tools.Saturated:
        """Every single-base change of a region of up to 200 bases: the ten lowest and the ten highest scores.

        USE WHEN a user asks which changes of a stretch matter most. DO NOT compare these scores with those of
        score_variants: windows are shared here, which is another score. percentile: among all changes of this region.
        Research output, not a diagnosis.
        """
        return await desk.compute(model, None, lambda s, loaded: tools.saturate(s, loaded, region, genome))

    @server.tool()
    async def embed(
        sequences: Sequences,
        layer: Annotated[str | None, Field(max_length=200, description="default: the last hidden state")] = None,
        pool: Annotated[str, Field(max_length=10, description="mean, max, last or cls")] = "mean",
        model: Model = None,
    ) -> tools.Embedded:
        """Embeddings of up to 50 sequences, saved as an .npz; the answer has their shape, norms and the file.

        USE WHEN a program will work on the vectors. The numbers mean nothing one by one. Research output.
        """
        return await desk.compute(model, None, lambda s, loaded: tools.embed(s, loaded, sequences, layer, pool))

    @server.tool()
    async def generate(
        prompt: Annotated[str, Field(max_length=1_000_000, description="bases before the new ones")] = "",
        species: Annotated[
            str | None, Field(max_length=200, description="its phylogenetic tag goes before the prompt (Evo 2)")
        ] = None,
        n: Annotated[int, Field(ge=1, le=tools.MOST_TOKENS, description="new bases")] = 200,
        seed: Annotated[int | None, Field(ge=0, lt=1 << 44)] = None,
        model: Model = None,
    ) -> tools.Generated:
        """Up to 2,000 new bases after a prompt, by a causal model.

        NOT FOR HARM: not for designing, reconstructing or enhancing a pathogen or a toxin. What a model writes is a
        hypothesis, not a working sequence. The same seed gives the same bases.
        """
        return await desk.compute(
            model, "causal", lambda s, loaded: tools.generate(s, loaded, prompt, species, n, seed)
        )

    @server.tool()
    async def score_vcf(
        path: Annotated[str, Field(min_length=1, max_length=4096, description="a VCF under --allow-dir")],
        genome: GenomeId = None,
        model: Model = None,
    ) -> tools.JobState:
        """Score a whole VCF in the background: the job's id at once; ask job(id) for how far it is.

        USE WHEN there are more than 50 variants. The results are a VCF and a table, as `nexvar score` writes them.
        Research output, not a diagnosis.
        """
        return await desk.ask(lambda server: tools.score_vcf(server, path, genome, model))

    @server.tool()
    async def job(id: Annotated[str, Field(min_length=1, max_length=100)]) -> tools.JobState:
        """How far a job is, and where its results are when its state is done."""
        return await desk.ask(lambda server: tools.job(server, id))

    return server


def on_stdio(settings: Settings) -> None:
    """Serve the process that started this one, until it closes the pipe. Standard output is the protocol's alone.

    NexVarError at once for a model that nobody knows; whatever else is wrong is told by the first call.
    """
    for choice in settings.models:
        if choice.source is not None and as_folder(choice.source) is None:
            cards.get(str(choice.source))

    def opened() -> Server:
        server = Server.open(settings)
        server.jobs.start()
        return server

    desk = Desk(opened)
    try:
        build(desk).run("stdio")
    finally:
        desk.close()


class OverHttp:
    """POST /mcp, for an application whose guard has checked who asks. Nothing is kept between two requests."""

    def __init__(self, desk: Desk) -> None:
        self._server = build(desk)
        unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # guard.py did it, for all names
        app = self._server.streamable_http_app(stateless_http=True, json_response=True, transport_security=unguarded)
        (route,) = (route for route in app.routes if isinstance(route, Route))
        self.route = Route("/mcp", route.endpoint, methods=["POST"])  # a GET would wait, for nothing, until we stop

    def running(self) -> AbstractAsyncContextManager[None]:
        """To be entered, once, around the application's life."""
        return self._server.session_manager.run()
