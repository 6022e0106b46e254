using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using System.Text.Json.Serialization.Metadata;
using k8s;
using Microsoft.Extensions.Logging;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>What every program of ours is started with.</summary>
public sealed record ProgramHostOptions
{
    /// <summary>The program's name: user agent, field manager, reporter of events, logger.</summary>
    public required string Name { get; init; }

    /// <summary>Who it is among its like: a pod's or node's name.</summary>
    public required string Instance { get; init; }

    /// <summary>A kubeconfig; null: <c>$KUBECONFIG</c>, <c>~/.kube/config</c>, or the pod's service account.</summary>
    public string? Kubeconfig { get; init; }

    /// <summary>Where <c>/healthz</c>, <c>/readyz</c> and <c>/metrics</c> are served, as in <c>0.0.0.0:8080</c>; empty: nowhere.</summary>
    public string HealthAddress { get; init; } = "";

    /// <summary>Where <c>/metrics</c> is served besides, as in <c>192.0.2.1:8082</c>; empty: nowhere.</summary>
    public string MetricsAddress { get; init; } = "";

    /// <summary>The least severe messages that are logged.</summary>
    public LogLevel LogLevel { get; init; } = LogLevel.Information;

    /// <summary>How they are written.</summary>
    public LogFormat LogFormat { get; init; } = LogFormat.Json;

    /// <summary>Whose spans are sent to a collector when the environment names one (<see cref="Traces"/>); null: nobody's.</summary>
    public string? TraceSource { get; init; }

    /// <summary>JSON of the program's own kinds.</summary>
    public IJsonTypeInfoResolver? EntityTypes { get; init; }

    /// <summary>Put around every call to the API server.</summary>
    public Func<HttpMessageHandler, HttpMessageHandler>? Wrap { get; init; }
}

/// <summary>What a program works with.</summary>
public sealed record ProgramContext(
    EntityClient Client,
    EventRecorder Events,
    CollectorRegistry Metrics,
    HealthServer? Health,
    ILogger Log
);

/// <summary>Starts a program: client, logs, metrics, health, and an orderly end on SIGTERM or SIGINT.</summary>
public static class ProgramHost
{
    /// <summary>Runs a program until it ends, fails or is told to stop; the exit code of the process.</summary>
    public static async Task<int> RunAsync(ProgramHostOptions options, Func<ProgramContext, CancellationToken, Task> program)
    {
        using ILoggerFactory logs = KubernetesLogging.Create(options.LogLevel, options.LogFormat);
        ILogger log = logs.CreateLogger(options.Name);
        using var stop = new CancellationTokenSource();
        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            log.LogInformation("{Signal}: ending", signal.Signal);
            stop.Cancel();
        }

        using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        try
        {
            using IDisposable? traces = options.TraceSource is { } source
                ? Traces.Start(options.Name, options.Instance, source, log)
                : null;
            KubernetesClientConfiguration configuration = options.Kubeconfig is { Length: > 0 } path
                ? ClusterAccess.FromKubeconfig(path)
                : ClusterAccess.Default();
            CollectorRegistry metrics = Metrics.NewCustomRegistry();
            ProcessMetrics.AddTo(metrics);
            using IDisposable meters = DotNetMeters.Listen(metrics);
            await using var memory = new UnusedMemory(TimeProvider.System, UnusedMemory.GiveBack);
            using var client = new EntityClient(
                configuration,
                options.EntityTypes,
                logger: log,
                wrap: options.Wrap,
                userAgent: options.Name,
                fieldManager: options.Name,
                metrics: metrics
            );
            await using var events = new EventRecorder(client, options.Name, options.Instance, logger: log, metrics: metrics);
            await using HealthServer? health =
                options.HealthAddress.Length > 0 ? new HealthServer(Endpoint(options.HealthAddress), metrics, log) : null;
            health?.AddReadinessCheck("rights", client.Rights.WhyNotWell);
            if (health is not null)
                await health.StartAsync(stop.Token);
            await using HealthServer? shown =
                options.MetricsAddress.Length > 0
                    ? new HealthServer(Endpoint(options.MetricsAddress) with { OnlyMetrics = true }, metrics, log)
                    : null;
            if (shown is not null)
                await shown.StartAsync(stop.Token);

            await program(new ProgramContext(client, events, metrics, health, log), stop.Token);
            return stop.IsCancellationRequested ? 0 : 1;
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return 0;
        }
#pragma warning disable CA1031 // the last place where it can be said
        catch (Exception error)
#pragma warning restore CA1031
        {
            log.LogCritical(error, "{Program} ends: {Message}", options.Name, error.Cause());
            return 1;
        }
    }

    /// <summary>An address and a port; an IPv6 address may stand without brackets, since a port always follows it.</summary>
    private static HealthServerOptions Endpoint(string address)
    {
        int colon = address.LastIndexOf(':');
        return
            colon > 0
            && IPAddress.TryParse(address[..colon], out IPAddress? at)
            && ushort.TryParse(address[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out ushort port)
            ? new HealthServerOptions { Address = at, Port = port }
            : throw new FormatException(
                $"'{address}' is not an address to serve health on: an IP address and a port are, such as 0.0.0.0:8080."
            );
    }
}
