# Two images. Works with the classic builder and with BuildKit:
#
#   docker build -t medley:0.1.0 .                              the operator, lean: what it needs
#   docker build -t medley:0.1.0-full --build-arg VARIANT=full .  with Z3 too, for policies
#   docker build -t medley-lab:0.1.0 --target simulator .       the vLLM simulator, router and load generator
#
# Only the stage `wheelhouse` uses the network, and that only if the context has no dist/wheelhouse-VARIANT
# (`make wheelhouse VARIANT=…` fills it, from uv.lock).
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS wheelhouse
ARG VARIANT=lean
WORKDIR /build
COPY . .
RUN sh hack/image/wheelhouse.sh "${VARIANT}" /wheelhouse

FROM ${BASE} AS installed
COPY --from=wheelhouse /wheelhouse /wheelhouse
COPY hack/image/install.sh /install.sh
RUN sh /install.sh /wheelhouse /opt/medley

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.licenses="Apache-2.0"
# A numeric user has no name unless it is written down, and kopf asks for one.
RUN echo 'medley:x:65532:65532:medley:/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'medley:x:65532:' >> /etc/group
COPY --from=installed /opt/medley /opt/medley
ENV PATH=/opt/medley/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp LOGNAME=medley
USER 65532:65532
WORKDIR /tmp

# Stands in for an engine that needs a GPU: takes vLLM's arguments, speaks its API and exports its metrics. With
# `python -m medley.lab.traffic` as its command it sends the traffic. All that the extra `lab` adds, aiohttp, is there
# because kopf needs it too; so the two images differ in nothing but what they start.
FROM runtime AS simulator
RUN python -c 'import medley.lab.vllm_container, medley.lab.traffic'
LABEL org.opencontainers.image.title="Medley lab" \
      org.opencontainers.image.description="A vLLM simulator, and traffic for it: to try Medley without a GPU"
ENTRYPOINT ["python", "-m", "medley.lab.vllm_container"]

# The last stage is what a build without a target gives.
FROM runtime AS operator
LABEL org.opencontainers.image.title="Medley" \
      org.opencontainers.image.description="Keeps LLM services inside their latency objectives at the lowest GPU cost"
ENTRYPOINT ["/opt/medley/bin/medley"]
CMD ["--help"]
