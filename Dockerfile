# docker build --target serve -t taxonomist .          the server, without torch
# docker build --target train -t taxonomist-train .    the worker, with torch for CUDA (and CPU)
# What each of them installs is listed in pyproject.toml: the dependencies, and its extras.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY taxonomy taxonomy
COPY storage storage
COPY inference inference
COPY training training
COPY backend backend

FROM python:${PYTHON}-slim AS serve-environment
RUN python -m venv /opt/venv
COPY --from=source /src /src
RUN /opt/venv/bin/pip install --no-cache-dir '/src[azure]'

FROM python:${PYTHON}-slim AS train-environment
RUN python -m venv /opt/venv
COPY --from=source /src /src
RUN /opt/venv/bin/pip install --no-cache-dir '/src[train,azure]'

FROM python:${PYTHON}-slim AS runtime
RUN useradd --create-home --uid 10001 taxonomist && install -d -o taxonomist /data
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 TAXONOMIST_HOME=/data TAXONOMIST_HOST=0.0.0.0
WORKDIR /data
VOLUME /data
USER taxonomist
ENTRYPOINT ["taxonomist"]

FROM runtime AS train
COPY --from=train-environment /opt/venv /opt/venv
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import pathlib, sys; from taxonomist.backend.state.heartbeat import FRESH_S, age; a = age(pathlib.Path('/data')); sys.exit(a is None or a > FRESH_S)"]
CMD ["worker"]

FROM runtime AS serve
COPY --from=serve-environment /opt/venv /opt/venv
EXPOSE 9090
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/livez', timeout=2)"]
CMD ["serve", "--no-worker"]
