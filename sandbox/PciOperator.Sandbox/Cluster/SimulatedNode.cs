using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Host;
using PciOperator.Kubelet;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Hosts;
using Prometheus;

namespace PciOperator.Sandbox.Cluster;

/// <summary>A node of a simulated cluster: its Node and pod, its simulated host, and the real agent on it.</summary>
public sealed class SimulatedNode : IAsyncDisposable
{
    private readonly IEntityClient _admin;
    private readonly KubernetesClientConfiguration _agentAccess;
    private readonly ILogger _log;
    private readonly TimeProvider _time;
    private CancellationTokenSource? _stop;
    private Task _running = Task.CompletedTask;

    /// <summary>A node; nothing is started yet.</summary>
    public SimulatedNode(
        string name,
        SimulatedHost host,
        IEntityClient admin,
        KubernetesClientConfiguration agentAccess,
        TimeProvider time,
        ILogger log
    )
    {
        (Name, Host, _agentAccess, _time, _log) = (name, host, agentAccess, time, log);
        Kubelet = new SimulatedKubelet(admin, name, bootId: () => host.BootId);
        _admin = admin;
    }

    /// <summary>The node's name.</summary>
    public string Name { get; }

    /// <summary>Its hardware and kernel.</summary>
    public SimulatedHost Host { get; }

    /// <summary>Its Node and pod.</summary>
    public SimulatedKubelet Kubelet { get; }

    /// <summary>Which installation its agent is of, from its next start on.</summary>
    public Installation Installation { get; set; } = Installation.Default;

    /// <summary>Where the kubelet is that its agent hands devices to, from its next start on; null: it hands them to none.</summary>
    public KubeletOptions? Plugins { get; set; }

    /// <summary>What the agent that was started last shows; empty before one is.</summary>
    public CollectorRegistry Metrics { get; private set; } = Prometheus.Metrics.NewCustomRegistry();

    /// <summary>Stands between the agent and the network; null: nothing does.</summary>
    public Func<HttpMessageHandler, HttpMessageHandler>? Wrap { get; set; }

    /// <summary>Registers the node, starts its agent and says so.</summary>
    public async Task StartAsync(IReadOnlyDictionary<string, string>? labels = null, CancellationToken ct = default)
    {
        await Kubelet.RegisterAsync(labels, ct);
        await StartAgentAsync(ct);
    }

    /// <summary>
    /// Starts the agent; its pod is Ready when the agent says so, as a readiness probe would have it. The kubelet, which starts pods, has
    /// told of a boot before.
    /// </summary>
    public async Task StartAgentAsync(CancellationToken ct = default)
    {
        if (await _admin.GetAsync<V1Node>(Name, ct: ct) is { } node && node.Status?.NodeInfo?.BootID != Host.BootId)
            await Kubelet.TellFactsAsync(ct);
        _stop = new CancellationTokenSource();
        var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _running = RunAgentAsync(ready, _stop.Token);
        await Kubelet.SetAgentReadyAsync(false, ct);
        _ = ready.Task.ContinueWith(
            _ => Kubelet.SetAgentReadyAsync(true, CancellationToken.None),
            CancellationToken.None,
            TaskContinuationOptions.OnlyOnRanToCompletion,
            TaskScheduler.Default
        );
    }

    /// <summary>Stops the agent in an orderly way; its pod is no longer Ready.</summary>
    public async Task StopAgentAsync(CancellationToken ct = default)
    {
        if (_stop is null)
            return;
        await _stop.CancelAsync();
        await _running.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        _stop.Dispose();
        _stop = null;
        await Kubelet.SetAgentReadyAsync(false, ct);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_stop is not null)
        {
            await _stop.CancelAsync();
            await _running.ContinueWith(
                _ => { },
                CancellationToken.None,
                TaskContinuationOptions.ExecuteSynchronously,
                TaskScheduler.Default
            );
            _stop.Dispose();
        }
    }

    private async Task RunAgentAsync(TaskCompletionSource ready, CancellationToken ct)
    {
        try
        {
            Metrics = Prometheus.Metrics.NewCustomRegistry();
            await AgentOnSimulatedHost.RunAsync(
                Name,
                Host,
                Installation,
                _agentAccess,
                _time,
                _log,
                ready,
                Wrap,
                ct,
                Plugins,
                metrics: Metrics
            );
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            // Told to stop.
        }
#pragma warning disable CA1031 // an agent that dies is what its pod's restart is for; here it is said aloud
        catch (Exception error)
#pragma warning restore CA1031
        {
            _log.LogCritical(error, "the agent of {Node} died: {Message}", Name, error.Message);
        }
    }
}

/// <summary>The real agent on a simulated host.</summary>
internal static class AgentOnSimulatedHost
{
    private const string StateDirectory = "/var/lib/pcioperator";

    public static async Task RunAsync(
        string node,
        SimulatedHost simulated,
        Installation installation,
        KubernetesClientConfiguration access,
        TimeProvider time,
        ILogger log,
        TaskCompletionSource ready,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap,
        CancellationToken ct,
        KubeletOptions? kubelet = null,
        TimeSpan? statusPatience = null,
        CollectorRegistry? metrics = null
    )
    {
        metrics ??= Metrics.NewCustomRegistry();
        using var client = new EntityClient(
            access,
            PciOperatorJsonContext.Default,
            time,
            log,
            wrap,
            "pcioperator-agent",
            "pcioperator-agent",
            metrics
        );
        await using var events = new EventRecorder(client, "pcioperator-agent", node, time, log, metrics: metrics);
        var host = new PassthroughHost(simulated.Files, StateDirectory, time, log, new PassthroughHostOptions { NodeName = node });
        var options = new NodeAgentOptions
        {
            NodeName = node,
            Installation = installation,
            Kubelet = kubelet,
            Debounce = TimeSpan.FromMilliseconds(20),
            Retry = TimeSpan.FromMilliseconds(500),
        };
        if (statusPatience is { } patience)
            options = options with { StatusPatience = patience };
        await using var agent = new NodeAgent(
            options,
            client,
            host,
            simulated.Files,
            StateDirectory,
            simulated.Uevents,
            time,
            log,
            metrics,
            events
        );
        Task running = agent.RunAsync(ct);
        while (agent.NotReady() is not null && !running.IsCompleted)
            await Task.WhenAny(running, Task.Delay(20, CancellationToken.None));
        if (!running.IsCompleted)
            ready.TrySetResult();
        await running;
    }
}
