using Grpc.Core;
using PciOperator.Host;
using PciOperator.Kubelet.Wire.DevicePluginV1Beta1;

namespace PciOperator.Kubelet;

/// <summary>All device plugins: which one is asked, the socket tells that a call came in by.</summary>
internal sealed class DevicePluginService(DevicePlugins plugins, ResourceHandout handout) : DevicePlugin.DevicePluginBase
{
    // "mrw" as KubeVirt's own plugins say it.
    private const string Permissions = "mrw";

    /// <summary>Each start of a container is looked at again.</summary>
    public static DevicePluginOptions Options { get; } = new() { PreStartRequired = true };

    public override Task<DevicePluginOptions> GetDevicePluginOptions(Empty request, ServerCallContext context) => Task.FromResult(Options);

    public override async Task ListAndWatch(
        Empty request,
        IServerStreamWriter<ListAndWatchResponse> responseStream,
        ServerCallContext context
    )
    {
        DevicePlugins.Plugin plugin = Of(context);
        ListAndWatchResponse? said = null;
        try
        {
            while (!context.CancellationToken.IsCancellationRequested)
            {
                Task change = plugin.Change.Next();
                ListAndWatchResponse? now = plugin.Ended.IsCompleted ? new ListAndWatchResponse() : Devices(plugin);
                if (now is not null && !now.Equals(said))
                {
                    await responseStream.WriteAsync(now, context.CancellationToken);
                    if (said is null)
                        plugins.Begins(plugin, responseStream);
                    said = now;
                }

                // The kubelet drops a resource with no devices at once, and one whose stream ends after five minutes only.
                if (plugin.Ended.IsCompleted)
                    return;
                await Task.WhenAny(change, plugin.Ended).WaitAsync(context.CancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            // The kubelet has gone.
        }
        finally
        {
            plugins.Ends(plugin, responseStream);
        }
    }

    public override Task<PreferredAllocationResponse> GetPreferredAllocation(
        PreferredAllocationRequest request,
        ServerCallContext context
    ) => throw new RpcException(new Status(StatusCode.Unimplemented, "a claim's devices are alike"));

    public override Task<AllocateResponse> Allocate(AllocateRequest request, ServerCallContext context)
    {
        DevicePlugins.Plugin plugin = Of(context);
        var response = new AllocateResponse();
        foreach (ContainerAllocateRequest container in request.ContainerRequests)
        {
            ResourceDevices devices = Try(() => handout.Allocate(plugin.ClaimUid, container.DevicesIds));
            var answer = new ContainerAllocateResponse();
            answer.Envs[devices.Environment.Name] = devices.Environment.Value;
            answer.Devices.AddRange(
                devices.Nodes.Select(node => new DeviceSpec
                {
                    ContainerPath = node,
                    HostPath = node,
                    Permissions = Permissions,
                })
            );
            response.ContainerResponses.Add(answer);
        }

        plugins.Wake();
        return Task.FromResult(response);
    }

    public override async Task<PreStartContainerResponse> PreStartContainer(PreStartContainerRequest request, ServerCallContext context)
    {
        DevicePlugins.Plugin plugin = Of(context);
        try
        {
            await handout.CheckAsync(plugin.ClaimUid, request.DevicesIds, context.CancellationToken);
        }
        catch (Exception e) when (e is HandoutException or HostIoException)
        {
            throw Refusal(e);
        }

        plugins.Wake();
        return new PreStartContainerResponse();
    }

    /// <summary>What the kubelet counts; null: that is not known now, and stays what it was.</summary>
    private ListAndWatchResponse? Devices(DevicePlugins.Plugin plugin)
    {
        if (handout.Offers is not { } offers)
            return null;
        var response = new ListAndWatchResponse();
        foreach ((string id, bool isHealthy, int? numa) in offers.Where(o => o.ClaimUid == plugin.ClaimUid).SelectMany(handout.Devices))
        {
            var device = new Device { ID = id, Health = isHealthy ? "Healthy" : "Unhealthy" };

            // A node that isn't known is not node 0, and not -1 either.
            if (numa is { } node)
                device.Topology = new TopologyInfo { Nodes = { new NUMANode { ID = node } } };
            response.Devices.Add(device);
        }

        return response;
    }

    private DevicePlugins.Plugin Of(ServerCallContext context) =>
        plugins.At(PluginSockets.PathOf(context.GetHttpContext()))
        ?? throw new RpcException(new Status(StatusCode.NotFound, "its PassthroughClaim has no devices on this node any more"));

    private static T Try<T>(Func<T> call)
    {
        try
        {
            return call();
        }
        catch (Exception e) when (e is HandoutException or HostIoException)
        {
            throw Refusal(e);
        }
    }

    private static RpcException Refusal(Exception e) => new(new Status(StatusCode.FailedPrecondition, e.Message));
}
