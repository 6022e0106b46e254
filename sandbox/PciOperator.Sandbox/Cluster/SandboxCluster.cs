using System.Text;
using System.Text.Json.Nodes;
using k8s;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Hosts;
using PciOperator.Sandbox.Scheduling;
using PciOperator.Sandbox.Validation;
using Prometheus;

namespace PciOperator.Sandbox.Cluster;

/// <summary>How a sandbox cluster runs.</summary>
public sealed record SandboxClusterOptions
{
    /// <summary>Who the controller is at the API server; null: the administrator.</summary>
    public KubernetesClientConfiguration? ControllerAccess { get; init; }

    /// <summary>Who the agent of a node is; null: the administrator.</summary>
    public Func<string, KubernetesClientConfiguration>? AgentAccess { get; init; }

    /// <summary>Who kube-scheduler is; null: the administrator, whom no policy holds up.</summary>
    public KubernetesClientConfiguration? SchedulerAccess { get; init; }

    /// <summary>Who ResourceClaims' controller is; null: the administrator.</summary>
    public KubernetesClientConfiguration? ClaimControllerAccess { get; init; }

    /// <summary>How the controller runs.</summary>
    public ControllerOptions Controller { get; init; } = new() { LeaderElect = false, DefaultDelivery = Delivery.None };

    /// <summary>
    /// Whether pods are scheduled and run: kube-scheduler, ResourceClaims' controller and kubelets are there, as far as devices go. Claims are
    /// then delivered as the controller's options say.
    /// </summary>
    public bool RunsPods { get; init; }

    /// <summary>Stands between a program (<c>controller</c> or <c>agent</c>) and the network, to count its calls; null: nothing does.</summary>
    public Func<string, HttpMessageHandler, HttpMessageHandler>? Wrap { get; init; }

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Where programs log.</summary>
    public required ILogger Log { get; init; }
}

/// <summary>
/// A cluster of simulated nodes: the real controller and real agents against an API server, which is the sandbox's own
/// or any other.
/// </summary>
public sealed class SandboxCluster : IAsyncDisposable
{
    /// <summary>The agents' namespace.</summary>
    public const string Namespace = Installation.AgentsNamespace;

    /// <summary>The controller's namespace.</summary>
    public const string ControllerNamespace = Installation.ControllerNamespace;

    private readonly SandboxClusterOptions _options;
    private readonly SandboxApiServer? _server;
    private readonly Dictionary<string, SimulatedNode> _nodes = [];
    private readonly Dictionary<string, SimulatedPods> _pods = [];
    private readonly List<(CancellationTokenSource Stop, Task Running)> _controllers = [];

    private SandboxCluster(KubernetesClientConfiguration admin, SandboxClusterOptions options, SandboxApiServer? server)
    {
        (Admin, _options, _server) = (admin, options, server);
        Client = new EntityClient(admin, ResourceJsonContext.WithOwnKinds, options.Time, options.Log, fieldManager: "sandbox");
    }

    /// <summary>The administrator's access.</summary>
    public KubernetesClientConfiguration Admin { get; }

    /// <summary>The administrator's client.</summary>
    public EntityClient Client { get; }

    /// <summary>The nodes by name.</summary>
    public IReadOnlyDictionary<string, SimulatedNode> Nodes => _nodes;

    /// <summary>The pods that run, by node; empty when the cluster runs none.</summary>
    public IReadOnlyDictionary<string, SimulatedPods> Pods => _pods;

    /// <summary>The kubeconfig of the sandbox's own API server; null with another.</summary>
    public string? KubeconfigText => _server?.KubeconfigText;

    /// <summary>A cluster over an API server of its own.</summary>
    public static async Task<SandboxCluster> StartAsync(
        SandboxClusterOptions options,
        SandboxApiServerOptions? server = null,
        CancellationToken ct = default
    )
    {
        SandboxApiServer started = await SandboxApiServer.StartAsync(
            (server ?? new SandboxApiServerOptions()) with
            {
                Crds = SandboxCrds.All,
                Validators = OwnResourceRules.Validators,
            },
            ct
        );
        var cluster = new SandboxCluster(ClusterAccess.FromKubeconfigText(started.KubeconfigText), options, started);
        await cluster.CreateNamespacesAsync(ct);
        if (options.RunsPods)
            await cluster.StartSchedulingAsync(ct);
        return cluster;
    }

    /// <summary>A cluster over an API server that is there; the CRDs are applied to it.</summary>
    public static async Task<SandboxCluster> ConnectAsync(
        KubernetesClientConfiguration admin,
        SandboxClusterOptions options,
        CancellationToken ct = default
    )
    {
        var cluster = new SandboxCluster(admin, options, null);
        foreach (string crd in SandboxCrds.All)
            await Manifests.InstallCrdAsync(cluster.Client, crd, ct);
        await cluster.CreateNamespacesAsync(ct);
        if (options.RunsPods)
            await cluster.StartSchedulingAsync(ct);
        return cluster;
    }

    /// <summary>What the controller that was started last shows; empty before one is.</summary>
    public CollectorRegistry ControllerMetrics { get; private set; } = Metrics.NewCustomRegistry();

    /// <summary>Adds a node and starts its agent.</summary>
    public async Task<SimulatedNode> AddNodeAsync(
        string name,
        SimulatedHost host,
        IReadOnlyDictionary<string, string>? labels = null,
        CancellationToken ct = default
    )
    {
        var node = new SimulatedNode(name, host, Client, _options.AgentAccess?.Invoke(name) ?? Admin, _options.Time, _options.Log);
        _nodes[name] = node;
        if (_options.Wrap is { } wrap)
            node.Wrap = inner => wrap("agent", inner);
        if (_options.RunsPods)
        {
            _pods[name] = new SimulatedPods(Client, name, host.Files, DraNames.Driver, SimulatedHost.StateDirectory, _options.Log);
            node.Plugins = _pods[name].Options;
        }

        await node.StartAsync(labels, ct);
        return node;
    }

    /// <summary>Starts a controller; several may run at once. The result stops it.</summary>
    public Func<Task> StartController(ControllerOptions? options = null)
    {
        var stop = new CancellationTokenSource();
        Task running = RunControllerAsync(options ?? _options.Controller, stop.Token);
        _controllers.Add((stop, running));
        return async () =>
        {
            await stop.CancelAsync();
            await running;
        };
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach ((CancellationTokenSource stop, Task running) in _controllers)
        {
            await stop.CancelAsync();
            await running;
            stop.Dispose();
        }

        foreach (SimulatedPods pods in _pods.Values)
            await pods.DisposeAsync();
        foreach (SimulatedNode node in _nodes.Values)
            await node.DisposeAsync();
        Client.Dispose();
        if (_server is not null)
            await _server.DisposeAsync();
    }

    private async Task StartSchedulingAsync(CancellationToken ct)
    {
        using var deviceClass = new StreamReader(typeof(SandboxCluster).Assembly.GetManifestResourceStream("config/device-class.yaml")!);
        await Manifests.ApplyAsync(Client, await deviceClass.ReadToEndAsync(ct), ct: ct);
        var stop = new CancellationTokenSource();
        _controllers.Add((stop, Task.WhenAll(ScheduleAsync(stop.Token), MakeClaimsAsync(stop.Token))));
    }

    private async Task ScheduleAsync(CancellationToken ct)
    {
        using var client = new EntityClient(_options.SchedulerAccess ?? Admin, null, _options.Time, _options.Log, userAgent: "scheduler");
        await new SimulatedScheduler(client, _options.Time, _options.Log).RunAsync(ct);
    }

    private async Task MakeClaimsAsync(CancellationToken ct)
    {
        using var client = new EntityClient(
            _options.ClaimControllerAccess ?? Admin,
            null,
            _options.Time,
            _options.Log,
            userAgent: "claims"
        );
        await new SimulatedClaimController(client, _options.Time, _options.Log).RunAsync(ct);
    }

    private async Task RunControllerAsync(ControllerOptions options, CancellationToken ct)
    {
        try
        {
            CollectorRegistry metrics = ControllerMetrics = Metrics.NewCustomRegistry();
            using var client = new EntityClient(
                _options.ControllerAccess ?? Admin,
                ResourceJsonContext.WithOwnKinds,
                _options.Time,
                _options.Log,
                wrap: _options.Wrap is { } wrap ? inner => wrap("controller", inner) : null,
                userAgent: "pcioperator-controller",
                fieldManager: "pcioperator-controller",
                metrics: metrics
            );
            await using var events = new EventRecorder(
                client,
                "pcioperator-controller",
                options.Identity,
                _options.Time,
                _options.Log,
                metrics: metrics
            );
            await new PciController(client, options, _options.Time, _options.Log, metrics, events).RunAsync(ct);
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            // Told to stop.
        }
#pragma warning disable CA1031 // as with agents: said aloud
        catch (Exception error)
#pragma warning restore CA1031
        {
            _options.Log.LogCritical(error, "the controller died: {Message}", error.Message);
        }
    }

    private async Task CreateNamespacesAsync(CancellationToken ct)
    {
        foreach (string name in new[] { Namespace, ControllerNamespace })
        {
            try
            {
                var ns = new JsonObject
                {
                    ["apiVersion"] = "v1",
                    ["kind"] = "Namespace",
                    ["metadata"] = new JsonObject { ["name"] = name },
                };
                (
                    await Client.SendRawAsync(HttpMethod.Post, "/api/v1/namespaces", Encoding.UTF8.GetBytes(ns.ToJsonString()), ct: ct)
                ).Dispose();
            }
            catch (ApiException there) when (there.IsAlreadyExists)
            {
                // From an earlier start.
            }
        }
    }
}
