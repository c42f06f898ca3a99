# A broker that listens on all addresses of its container, without passwords: publish the port to whom you trust only.
#
#     docker build -t forkbroker .
#     docker run -p 127.0.0.1:61613:61613 -v forkbroker:/var/lib/forkbroker forkbroker
#
# Options of stomp-broker(8) can follow the name of the image, and /etc/forkbroker/forkbroker.toml can be mounted.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/forkbroker \
    && /opt/forkbroker/bin/pip install --no-cache-dir --require-hashes -r etc/requirements.lock \
    && /opt/forkbroker/bin/pip install --no-cache-dir --no-deps . \
    && /opt/forkbroker/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/forkbroker /opt/forkbroker
RUN useradd --system --no-create-home --shell /usr/sbin/nologin stomp-broker \
    && install -d -o stomp-broker -g stomp-broker -m 700 /var/lib/forkbroker /run/forkbroker
ENV PATH=/opt/forkbroker/bin:$PATH STATE_DIRECTORY=/var/lib/forkbroker
USER stomp-broker
VOLUME /var/lib/forkbroker
EXPOSE 61613
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s CMD ["stomp-broker", "--pidfile", "/run/forkbroker/pid", "--status"]
ENTRYPOINT ["stomp-broker", "--pidfile", "/run/forkbroker/pid", "--listen", "0.0.0.0:61613", "--allow-anonymous"]
