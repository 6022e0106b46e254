# Two images: `docker build --target controller` and `--target agent`, or `make images` for both.
ARG SDK_IMAGE=mcr.microsoft.com/dotnet/sdk:10.0
ARG CONTROLLER_IMAGE=mcr.microsoft.com/dotnet/runtime-deps:10.0-noble-chiseled
ARG AGENT_IMAGE=mcr.microsoft.com/dotnet/runtime-deps:10.0

FROM ${SDK_IMAGE} AS source
WORKDIR /source
ENV DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
# NativeAOT links with clang (src/Program.props), which the SDK's image has not.
RUN command -v clang || { apt-get update && apt-get install -y --no-install-recommends clang && rm -rf /var/lib/apt/lists/*; }
COPY global.json Directory.Build.props Directory.Packages.props .editorconfig ./
COPY src/ src/

FROM source AS build-controller
RUN dotnet publish src/PciOperator.Controller -c Release -r linux-x64 -p:RestoreLockedMode=true -o /out

FROM source AS build-agent
RUN dotnet publish src/PciOperator.Agent -c Release -r linux-x64 -p:RestoreLockedMode=true -o /out

# No shell, no package manager, no root.
FROM ${CONTROLLER_IMAGE} AS controller
# The root file system is read-only: no diagnostics socket.
ENV DOTNET_EnableDiagnostics=0
COPY --from=build-controller /out/pcioperator-controller /app/
USER 1654
ENTRYPOINT ["/app/pcioperator-controller"]

# Root, and with a chroot program: kernel modules are loaded by the host's own modprobe, in the host's root (/proc/1/root).
FROM ${AGENT_IMAGE} AS agent
ENV DOTNET_EnableDiagnostics=0
COPY --from=build-agent /out/pcioperator-agent /app/
USER 0
ENTRYPOINT ["/app/pcioperator-agent"]
