using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;
using PciOperator.Host;
using PciOperator.Kubelet;
using PciOperator.Kubelet.Wire.DraV1;
using PciOperator.Kubelet.Wire.PluginRegistration;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Scheduling;

namespace PciOperator.Sandbox.Cluster;

/// <summary>A device that a running pod has.</summary>
/// <param name="Request">The request that it serves.</param>
/// <param name="Address">Its address, as virt-launcher reads it.</param>
/// <param name="Nodes">The device nodes that it brings into the container.</param>
public sealed record PodDevice(string Request, string Address, IReadOnlyList<string> Nodes);

/// <summary>
/// What a kubelet and a container runtime do for a node's pods that have ResourceClaims: they register the agent's DRA plugin, have it
/// prepare each claim, make the container of the CDI devices that it answers with, and give the claim back when the pod is gone.
/// </summary>
/// <remarks>A container is what it sees: device nodes, and the file that KubeVirt's launcher reads a device's address from.</remarks>
public sealed class SimulatedPods : IAsyncDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(45);
    private readonly RawObjects _objects;
    private readonly string _node;
    private readonly IHostFileSystem _files;
    private readonly ILogger _log;
    private readonly DirectoryInfo _sockets = Directory.CreateTempSubdirectory("k");
    private readonly ConcurrentDictionary<string, (IReadOnlyList<Claim> Claims, IReadOnlyList<PodDevice> Devices)> _running = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _task;
    private (string Socket, DateTime Made, GrpcChannel Channel)? _plugin;

    /// <summary>Starts at once.</summary>
    /// <param name="client">The administrator's.</param>
    /// <param name="node">The node's name.</param>
    /// <param name="files">The host.</param>
    /// <param name="driver">The driver's name.</param>
    /// <param name="stateDirectory">The agent's folder, on the host.</param>
    /// <param name="log">Says what a pod waits for.</param>
    public SimulatedPods(IEntityClient client, string node, IHostFileSystem files, string driver, string stateDirectory, ILogger log)
    {
        (_objects, _node, _files, _log) = (new RawObjects(client), node, files, log);
        Options = new KubeletOptions
        {
            Driver = driver,
            // Short, since a socket's path is.
            KubeletDirectory = "/k",
            SocketRoot = _sockets.FullName,
            StateDirectory = stateDirectory,
        };
        _task = RunAsync(_stop.Token);
    }

    /// <summary>How the node's agent finds this kubelet.</summary>
    public KubeletOptions Options { get; }

    /// <summary>The devices of the pods that run, by the pod's UID.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<PodDevice>> Running => _running.ToDictionary(r => r.Key, r => r.Value.Devices);

    private string Registry => $"{_sockets.FullName}{Options.KubeletDirectory}/plugins_registry";

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _task;
        _plugin?.Channel.Dispose();
        _stop.Dispose();
        _sockets.Delete(recursive: true);
    }

    private async Task RunAsync(CancellationToken ct)
    {
        Directory.CreateDirectory(Registry);
        while (!ct.IsCancellationRequested)
        {
            try
            {
                await RegisterAsync(ct);
                IReadOnlyList<JsonObject> pods = await _objects.ListAsync($"{Paths.Pods}?fieldSelector=spec.nodeName%3D{_node}", ct);
                foreach (string gone in _running.Keys.Except(pods.Where(p => !p.HasEnded()).Select(p => p.Uid())).ToList())
                    await EndAsync(gone, ct);
                foreach (JsonObject pod in pods.Where(Waits))
                    await StartAsync(pod, ct);
                await Task.Delay(Look, ct);
            }
            catch (OperationCanceledException) when (ct.IsCancellationRequested)
            {
                return;
            }
            catch (Exception failed) when (failed is ApiException or HttpRequestException or RpcException)
            {
                if (ct.IsCancellationRequested)
                    return;
                _log.LogWarning("node {Node}: {Error}", _node, failed.Message);
                await Task.Delay(Look, CancellationToken.None);
            }
        }
    }

    private bool Waits(JsonObject pod) => !pod.HasEnded() && !_running.ContainsKey(pod.Uid()) && pod.Items("spec", "resourceClaims").Any();

    /// <summary>Dials what has come into the folder of plugins; the newest counts.</summary>
    private async Task RegisterAsync(CancellationToken ct)
    {
        FileInfo? socket = new DirectoryInfo(Registry).EnumerateFiles("*.sock").MaxBy(f => f.LastWriteTimeUtc);
        if (socket is null || (_plugin is { } known && known.Socket == socket.FullName && known.Made == socket.LastWriteTimeUtc))
            return;
        using GrpcChannel channel = UnixSockets.Dial(socket.FullName);
        var registration = new Registration.RegistrationClient(channel);
        PluginInfo info = await registration.GetInfoAsync(new InfoRequest(), cancellationToken: ct);
        _plugin?.Channel.Dispose();
        _plugin = (socket.FullName, socket.LastWriteTimeUtc, UnixSockets.Dial(_sockets.FullName + info.Endpoint));
        await registration.NotifyRegistrationStatusAsync(new RegistrationStatus { PluginRegistered = true }, cancellationToken: ct);
    }

    private async Task StartAsync(JsonObject pod, CancellationToken ct)
    {
        if (_plugin is null)
            return;
        var claims = new List<Claim>();
        string ns = pod.Text("metadata", "namespace");
        foreach (JsonObject use in pod.Items("spec", "resourceClaims"))
        {
            string name = use.Text("resourceClaimName") is { Length: > 0 } given
                ? given
                : pod.Items("status", "resourceClaimStatuses").First(s => s.Text("name") == use.Text("name")).Text("resourceClaimName");
            if (await _objects.GetAsync($"{Paths.ClaimsOf(ns)}/{name}", ct) is not { } claim)
                return;
            claims.Add(
                new Claim
                {
                    Namespace = ns,
                    Name = name,
                    Uid = claim.Uid(),
                }
            );
        }

        var request = new NodePrepareResourcesRequest();
        request.Claims.AddRange(claims);
        NodePrepareResourcesResponse answer = await new DRAPlugin.DRAPluginClient(_plugin.Value.Channel).NodePrepareResourcesAsync(
            request,
            deadline: DateTime.UtcNow + Deadline,
            cancellationToken: ct
        );
        if (answer.Claims.Values.FirstOrDefault(c => c.Error.Length > 0) is { } failed)
        {
            _log.LogWarning("pod {Pod} waits: {Error}", pod.Key(), failed.Error);
            return;
        }

        List<PodDevice> devices =
        [
            .. answer.Claims.Values.SelectMany(c => c.Devices).Select(d => Device(d.RequestNames.Single(), d.CdiDeviceIds)),
        ];
        _running[pod.Uid()] = (claims, devices);
        await _objects.PatchAsync(
            Paths.Pod(pod) + "/status",
            (await _objects.GetAsync(Paths.Pod(pod), ct))!,
            new JsonObject { ["status"] = new JsonObject { ["phase"] = "Running" } },
            ct
        );
    }

    private async Task EndAsync(string pod, CancellationToken ct)
    {
        if (_plugin is null)
            return;
        var request = new NodeUnprepareResourcesRequest();
        request.Claims.AddRange(_running[pod].Claims);
        NodeUnprepareResourcesResponse answer = await new DRAPlugin.DRAPluginClient(_plugin.Value.Channel).NodeUnprepareResourcesAsync(
            request,
            deadline: DateTime.UtcNow + Deadline,
            cancellationToken: ct
        );
        if (answer.Claims.Values.All(c => c.Error.Length == 0))
            _running.TryRemove(pod, out _);
    }

    /// <summary>What the CDI devices bring into a container.</summary>
    private PodDevice Device(string request, IReadOnlyCollection<string> ids)
    {
        List<JsonNode> edits =
        [
            .. _files
                .List(Options.CdiDirectory)
                .Where(f => f.EndsWith(".json", StringComparison.Ordinal))
                .Select(f => JsonNode.Parse(Read($"{Options.CdiDirectory}/{f}"))!)
                .SelectMany(file => file.Items("devices").Where(d => ids.Contains($"{file.Text("kind")}={d.Text("name")}")))
                .Select(d => d["containerEdits"]!),
        ];
        string folder = edits
            .SelectMany(e => e.Items("mounts"))
            .First(m => m.Text("containerPath").Contains($"/{request}/", StringComparison.Ordinal))
            .Text("hostPath");
        return new PodDevice(
            request,
            Address(folder, request),
            [.. edits.SelectMany(e => e.Items("deviceNodes")).Select(n => n.Text("path")).Distinct().Order(StringComparer.Ordinal)]
        );
    }

    /// <summary>As virt-launcher: of a stream of documents the first of the version that it knows.</summary>
    private string Address(string file, string request)
    {
        var reader = new Utf8JsonReader(Encoding.UTF8.GetBytes(Read(file)), new JsonReaderOptions { AllowMultipleValues = true });
        while (reader.Read())
        {
            var document = JsonNode.Parse(ref reader);
            if (document.Text("apiVersion") != "metadata.resource.k8s.io/v1alpha1")
                continue;
            return document
                .Items("requests")
                .Single(r => r.Text("name") == request)
                .Items("devices")
                .Single()
                .Text("attributes", "resource.kubernetes.io/pciBusID", "string");
        }

        throw new InvalidOperationException($"{file} has no document of a version that is known");
    }

    private string Read(string path) =>
        Encoding.UTF8.GetString(_files.ReadBytes(path, 1 << 20) ?? throw new InvalidOperationException($"there is no {path}"));
}
