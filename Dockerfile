# otel-novu as a container: no root, a read-only root file system, one volume for its state.
#
#   docker build -t otel-novu:0.1.0 .
#   docker run --read-only -v otel-novu:/var/lib/otel-novu -e MONGO_URL -e OTEL_EXPORTER_OTLP_ENDPOINT \
#     otel-novu:0.1.0
#
# Any command of otel-novu may follow: `check`, `show`, `once`, ...

FROM python:3.13.11-slim-trixie AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/otel-novu
# What changes rarely comes first, so that it is built once.
COPY requirements.txt ./
RUN pip --python /opt/otel-novu/bin/python install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r requirements.txt
COPY requirements-dev.txt pyproject.toml README.md LICENSE ./
COPY otel_novu otel_novu
# What builds the package is of the locked versions too.
RUN grep -oE '^[a-z0-9-]+==[^ ]+' requirements-dev.txt > pins.txt \
 && PIP_CONSTRAINT=pins.txt pip --python /opt/otel-novu/bin/python install \
      --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.13.11-slim-trixie
COPY --from=build /opt/otel-novu /opt/otel-novu
# A fresh volume takes over owner and mode. The number is nobody's; Kubernetes wants a number.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/otel-novu
ENV PATH=/opt/otel-novu/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OTEL_NOVU_STATE_DIR=/var/lib/otel-novu
VOLUME /var/lib/otel-novu
USER 10001:10001
# A look starts a Python; once a minute that would cost more than all that `run` does in a day.
HEALTHCHECK --interval=5m --timeout=10s --start-period=60s --retries=3 \
  CMD ["otel-novu", "health"]
ENTRYPOINT ["otel-novu"]
CMD ["run"]
