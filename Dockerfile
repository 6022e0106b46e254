# Three images: `--target controller`, `--target agent` and `--target kubectl-pci`; `make images` builds all of them. The same sources give the same bytes
# when the bases are pinned (by digest, as build arguments) and the build is told a time (SOURCE_DATE_EPOCH; make images gives the last commit's).
ARG SDK_IMAGE=mcr.microsoft.com/dotnet/sdk:10.0
ARG CONTROLLER_IMAGE=mcr.microsoft.com/dotnet/runtime-deps:10.0-noble-chiseled
ARG AGENT_IMAGE=mcr.microsoft.com/dotnet/runtime-deps:10.0
ARG CLI_IMAGE=mcr.microsoft.com/dotnet/runtime-deps:10.0-noble-chiseled
# Where the programs come from: compiled here (build), or taken from artifacts/images/programs (published), where tools/images puts what `dotnet publish` made.
ARG PROGRAMS=build

FROM ${CONTROLLER_IMAGE} AS controller-base
FROM ${AGENT_IMAGE} AS agent-base
FROM ${CLI_IMAGE} AS kubectl-pci-base

# On the builder's own architecture: for another one clang is a cross compiler, and needs that one's libraries and linker.
FROM --platform=$BUILDPLATFORM ${SDK_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /source
ENV DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
# NativeAOT links with clang (src/Program.props), which the SDK's image has not.
RUN set -e; packages="clang"; \
    if [ "$BUILDARCH" = amd64 ] && [ "$TARGETARCH" = arm64 ]; then packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; fi; \
    apt-get update && apt-get install -y --no-install-recommends $packages && rm -rf /var/lib/apt/lists/*
COPY global.json Directory.Build.props Directory.Packages.props .editorconfig ./
COPY src/ src/
COPY tools/PciOperator.Sbom/ tools/PciOperator.Sbom/
RUN set -e; runtime=linux-$(echo "$TARGETARCH" | sed s/amd64/x64/); \
    for project in Controller Agent Cli; do \
      dotnet publish "src/PciOperator.$project" -c Release -r "$runtime" -p:RestoreLockedMode=true -o /published; \
    done; \
    cp /published/pcioperator-controller /published/pcioperator-agent /published/kubectl-pci /
# What each is made of, its base included.
RUN --mount=type=bind,from=controller-base,target=/base dotnet run -c Release --project tools/PciOperator.Sbom -- \
    src/PciOperator.Controller "linux-$(echo "$TARGETARCH" | sed s/amd64/x64/)" /base > /pcioperator-controller.cdx.json
RUN --mount=type=bind,from=agent-base,target=/base dotnet run -c Release --project tools/PciOperator.Sbom -- \
    src/PciOperator.Agent "linux-$(echo "$TARGETARCH" | sed s/amd64/x64/)" /base > /pcioperator-agent.cdx.json
RUN --mount=type=bind,from=kubectl-pci-base,target=/base dotnet run -c Release --project tools/PciOperator.Sbom -- \
    src/PciOperator.Cli "linux-$(echo "$TARGETARCH" | sed s/amd64/x64/)" /base > /kubectl-pci.cdx.json

FROM scratch AS published
ARG TARGETARCH
COPY artifacts/images/programs/${TARGETARCH}/ /

FROM ${PROGRAMS} AS programs

# No shell, no package manager, no root.
FROM controller-base AS controller
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="PciOperator controller" \
      org.opencontainers.image.description="Decides which PCI devices each claim gets" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
# The root file system is read-only: no diagnostics socket.
ENV DOTNET_EnableDiagnostics=0
COPY --from=programs /pcioperator-controller /app/
COPY --from=programs /pcioperator-controller.cdx.json /usr/share/sbom/
USER 1654
ENTRYPOINT ["/app/pcioperator-controller"]

# Root, and with a chroot program: kernel modules are loaded by the host's own modprobe, in the host's root (/proc/1/root).
FROM agent-base AS agent
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="PciOperator agent" \
      org.opencontainers.image.description="Binds a node's PCI devices for claims and gives them back" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
ENV DOTNET_EnableDiagnostics=0
COPY --from=programs /pcioperator-agent /app/
COPY --from=programs /pcioperator-agent.cdx.json /usr/share/sbom/
USER 0
ENTRYPOINT ["/app/pcioperator-agent"]

# The kubectl plugin, for jobs and pipelines that have no copy of it.
FROM kubectl-pci-base AS kubectl-pci
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="kubectl pci" \
      org.opencontainers.image.description="Shows and explains PCI passthrough in a cluster" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
ENV DOTNET_EnableDiagnostics=0
COPY --from=programs /kubectl-pci /app/
COPY --from=programs /kubectl-pci.cdx.json /usr/share/sbom/
USER 1654
ENTRYPOINT ["/app/kubectl-pci"]
