using System.Collections.Concurrent;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using PciOperator.Kubelet;
using PciOperator.Kubelet.Wire.DevicePluginV1Beta1;
using PciOperator.Kubelet.Wire.PodResourcesV1;

namespace PciOperator.Testing;

/// <summary>What a container gets of an extended resource.</summary>
/// <param name="Environment">Its variables.</param>
/// <param name="Nodes">Its device nodes, with their permissions.</param>
public sealed record AllocatedContainer(
    IReadOnlyDictionary<string, string> Environment,
    IReadOnlyList<(string Path, string Permissions)> Nodes
);

/// <summary>
/// A kubelet as a device plugin meets it (pkg/kubelet/cm/devicemanager of Kubernetes 1.36): it removes all sockets of its folder when it starts, is told of
/// resources, dials back, listens, allocates once per pod and remembers that over its restarts, and asks before each start of a container. Beside it the
/// pod resources API.
/// </summary>
public sealed class DeviceManagerDouble : IAsyncDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);
    private readonly string _root;
    private readonly ConcurrentDictionary<string, Endpoint> _endpoints = new();

    // Its checkpoint: what each pod has been given.
    private readonly ConcurrentDictionary<string, (string Resource, string[] Ids, AllocatedContainer Container)> _pods = new();
    private WebApplication? _server;
    private WebApplication? _podResources;
    private CancellationTokenSource? _stop;

    /// <summary>A device manager; it is not started.</summary>
    /// <param name="root">Where the host's "/" is on this machine.</param>
    /// <param name="directory">The kubelet's folder, on the host.</param>
    public DeviceManagerDouble(string root, string directory = "/var/lib/kubelet") => (_root, Directory) = (root.TrimEnd('/'), directory);

    /// <summary>The kubelet's folder, on the host.</summary>
    public string Directory { get; }

    /// <summary>Its folder for plugins, on this machine.</summary>
    public string Folder => $"{_root}{Directory}/device-plugins";

    /// <summary>Why it takes up no resource; null: it does.</summary>
    public string? Refuses { get; set; }

    /// <summary>The devices of a resource, as the plugin said last: health, and the NUMA nodes when it has a topology. Null: no such resource.</summary>
    public IReadOnlyDictionary<string, (string Health, string? Numa)>? Devices(string resource) =>
        _endpoints.GetValueOrDefault(resource)?.Devices;

    /// <summary>Starts it.</summary>
    public async Task StartAsync()
    {
        System.IO.Directory.CreateDirectory(Folder);
        System.IO.Directory.CreateDirectory($"{_root}{Directory}/pod-resources");
        foreach (string socket in System.IO.Directory.EnumerateFiles(Folder, "*.sock").ToList())
            File.Delete(socket);
        _stop = new CancellationTokenSource();
        _server = await GrpcOnSocket.ServeAsync($"{Folder}/kubelet.sock", new Registrar(this));
        _podResources = await GrpcOnSocket.ServeAsync($"{_root}{Directory}/pod-resources/kubelet.sock", new Lister(this));
    }

    /// <summary>Stops it; what pods were given it still knows.</summary>
    public async Task StopAsync()
    {
        if (_stop is null)
            return;
        await _stop.CancelAsync();
        using var now = new CancellationTokenSource(TimeSpan.Zero);
        await _server!.StopAsync(now.Token);
        await _podResources!.StopAsync(now.Token);
        await _server.DisposeAsync();
        await _podResources.DisposeAsync();
        foreach (Endpoint endpoint in _endpoints.Values)
            endpoint.Channel.Dispose();
        _endpoints.Clear();
        _stop.Dispose();
        _stop = null;
    }

    /// <summary>Waits until all devices of a resource are healthy, so many.</summary>
    public Task WaitForAsync(string resource, int count) =>
        KubeletDouble.UntilAsync(
            () => Devices(resource) is { } devices && devices.Count == count && devices.Values.All(d => d.Health == "Healthy"),
            $"{resource} has not {count} healthy devices"
        );

    /// <summary>A pod is admitted: what it was given before it is given again, without asking.</summary>
    /// <exception cref="RpcException">The plugin refuses.</exception>
    /// <exception cref="InvalidOperationException">There are too few healthy devices.</exception>
    public async Task<AllocatedContainer> AdmitAsync(string ns, string pod, string resource, int count)
    {
        if (_pods.TryGetValue($"{ns}/{pod}", out (string, string[], AllocatedContainer Container) known))
            return known.Container;
        Endpoint endpoint = Of(resource);
        string[] free =
        [
            .. endpoint
                .Devices.Where(d => d.Value.Health == "Healthy" && !_pods.Values.Any(p => p.Resource == resource && p.Ids.Contains(d.Key)))
                .Select(d => d.Key)
                .Take(count),
        ];
        string? tooFew =
            free.Length < count
                ? $"requested number of devices unavailable for {resource}. Requested: {count}, Available: {free.Length}"
                : null;
        if (tooFew is not null)
            throw new InvalidOperationException(tooFew);
        var container = new ContainerAllocateRequest();
        container.DevicesIds.AddRange(free.Reverse());
        AllocateResponse answer = await endpoint.Plugin.AllocateAsync(
            new AllocateRequest { ContainerRequests = { container } },
            deadline: DateTime.UtcNow + Deadline
        );

        // Only the first is read.
        ContainerAllocateResponse first = answer.ContainerResponses[0];
        var given = new AllocatedContainer(
            first.Envs.ToDictionary(e => e.Key, e => e.Value),
            [.. first.Devices.Select(d => (d.HostPath, d.Permissions))]
        );
        _pods[$"{ns}/{pod}"] = (resource, free, given);
        return given;
    }

    /// <summary>A container of an admitted pod starts.</summary>
    /// <exception cref="RpcException">The plugin refuses.</exception>
    public async Task StartContainerAsync(string ns, string pod)
    {
        (string resource, string[] ids, _) = _pods[$"{ns}/{pod}"];
        var request = new PreStartContainerRequest();
        request.DevicesIds.AddRange(ids);
        await Of(resource).Plugin.PreStartContainerAsync(request, deadline: DateTime.UtcNow + Deadline);
    }

    /// <summary>A pod has ended: nobody is told.</summary>
    public void End(string ns, string pod) => _pods.TryRemove($"{ns}/{pod}", out _);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await StopAsync();

    private Endpoint Of(string resource) =>
        _endpoints.GetValueOrDefault(resource) ?? throw new InvalidOperationException($"no endpoint for {resource}");

    private async Task ListenAsync(string resource, Endpoint endpoint, CancellationToken ct)
    {
        try
        {
            using AsyncServerStreamingCall<ListAndWatchResponse> stream = endpoint.Plugin.ListAndWatch(new Empty(), cancellationToken: ct);
            await foreach (ListAndWatchResponse list in stream.ResponseStream.ReadAllAsync(ct))
            {
                endpoint.Devices = list.Devices.ToDictionary(
                    d => d.ID,
                    d => (d.Health, d.Topology is null ? null : string.Join(',', d.Topology.Nodes.Select(n => n.ID)))
                );
            }
        }
        catch (Exception e) when (e is RpcException or OperationCanceledException or ObjectDisposedException)
        {
            // The plugin has gone.
        }

        endpoint.Devices = endpoint.Devices.ToDictionary(d => d.Key, d => ("Unhealthy", d.Value.Numa));
        if (endpoint.Devices.Count == 0)
            _endpoints.TryRemove(new(resource, endpoint));
    }

    private sealed class Endpoint(GrpcChannel channel)
    {
        public GrpcChannel Channel { get; } = channel;

        public DevicePlugin.DevicePluginClient Plugin { get; } = new(channel);

        public IReadOnlyDictionary<string, (string Health, string? Numa)> Devices { get; set; } =
            new Dictionary<string, (string, string?)>();
    }

    private sealed class Registrar(DeviceManagerDouble manager) : Registration.RegistrationBase
    {
        public override Task<Empty> Register(RegisterRequest request, ServerCallContext context)
        {
            if (manager.Refuses is { } why)
                throw new RpcException(new Status(StatusCode.Unknown, why));
            if (request.Version != "v1beta1")
                throw new RpcException(new Status(StatusCode.Unknown, $"requested API version {request.Version} is not supported"));
            Assert.True(
                request.ResourceName[(request.ResourceName.IndexOf('/', StringComparison.Ordinal) + 1)..].Length <= 63,
                request.ResourceName
            );
            Assert.DoesNotContain('/', request.Endpoint);
            var endpoint = new Endpoint(UnixSockets.Dial($"{manager.Folder}/{request.Endpoint}"));
            if (manager._endpoints.TryGetValue(request.ResourceName, out Endpoint? before))
                before.Channel.Dispose();
            manager._endpoints[request.ResourceName] = endpoint;
            CancellationToken stop = manager._stop!.Token;
            _ = Task.Run(
                async () =>
                {
                    DevicePluginOptions options = await endpoint.Plugin.GetDevicePluginOptionsAsync(new Empty(), cancellationToken: stop);
                    Assert.True(options.PreStartRequired);
                    await manager.ListenAsync(request.ResourceName, endpoint, stop);
                },
                CancellationToken.None
            );
            return Task.FromResult(new Empty());
        }
    }

    private sealed class Lister(DeviceManagerDouble manager) : PodResourcesLister.PodResourcesListerBase
    {
        public override Task<ListPodResourcesResponse> List(ListPodResourcesRequest request, ServerCallContext context)
        {
            var response = new ListPodResourcesResponse();
            foreach ((string pod, (string resource, string[] ids, _)) in manager._pods)
            {
                var devices = new ContainerDevices { ResourceName = resource };
                devices.DeviceIds.AddRange(ids);
                response.PodResources.Add(
                    new PodResources
                    {
                        Namespace = pod.Split('/')[0],
                        Name = pod.Split('/')[1],
                        Containers =
                        {
                            new ContainerResources { Name = "compute", Devices = { devices } },
                        },
                    }
                );
            }

            return Task.FromResult(response);
        }
    }
}
