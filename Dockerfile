# A broker that listens on all addresses of its container, without passwords: publish the port to whom you trust only.
#
#     docker build -t forkbroker .
#     docker run -p 127.0.0.1:61613:61613 -v forkbroker:/var/lib/forkbroker forkbroker
#
# Options of stomp-broker(8) can follow the name of the image. For users, TLS and all else, mount a configuration file as
# /etc/forkbroker/forkbroker.toml, in the place of etc/docker/forkbroker.toml.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/forkbroker \
    && /opt/forkbroker/bin/pip install --no-cache-dir --require-hashes -r etc/requirements.lock \
    && /opt/forkbroker/bin/pip install --no-cache-dir --no-deps . \
    && /opt/forkbroker/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/forkbroker /opt/forkbroker
COPY etc/docker/forkbroker.toml /etc/forkbroker/forkbroker.toml
RUN useradd --system --no-create-home --shell /usr/sbin/nologin stomp-broker \
    && install -d -o stomp-broker -g stomp-broker -m 700 /var/lib/forkbroker /run/forkbroker
ENV PATH=/opt/forkbroker/bin:$PATH STATE_DIRECTORY=/var/lib/forkbroker
USER stomp-broker
VOLUME /var/lib/forkbroker
EXPOSE 61613
STOPSIGNAL SIGTERM
# It asks on the Unix socket, where the broker's own user needs no passcode. Status 2 is a broker that does not answer, or
# cannot store. Without the socket, 3 says only that the broker answers and wants a login (FORKBROKER_LOGIN and
# FORKBROKER_PASSCODE).
HEALTHCHECK --interval=30s --timeout=10s CMD stomp-brokerctl health --timeout 8s; test $? -ne 2
ENTRYPOINT ["stomp-broker"]
