using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using PciOperator.Kubelet;
using PciOperator.Kubelet.Wire.DevicePluginV1Beta1;
using PciOperator.Kubelet.Wire.PodResourcesV1;
using PciOperator.Testing;

namespace PciOperator.Vm.Guest;

/// <summary>
/// What a kubelet's device manager does for one pod: it takes up a resource that registers, allocates all of its devices, has the plugin look
/// before the container starts, and tells by pod resources who has them, until a file says that the pod has ended.
/// </summary>
internal sealed class DeviceManager(string resource, string ns, string pod)
{
    private const string Folder = "/var/lib/kubelet/device-plugins";
    private const string PodResourcesFolder = "/var/lib/kubelet/pod-resources";
    private const string PodEnded = "/run/pod-ended";
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);
    private readonly TaskCompletionSource<string> _registered = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile IReadOnlyList<string> _given = [];

    /// <summary>Prints what the container gets, then <c>started</c>, and keeps the plugin registered until killed.</summary>
    public async Task RunAsync()
    {
        Directory.CreateDirectory(Folder);
        Directory.CreateDirectory(PodResourcesFolder);
        await using WebApplication kubelet = await GrpcOnSocket.ServeAsync($"{Folder}/kubelet.sock", new Registrar(this));
        await using WebApplication lister = await GrpcOnSocket.ServeAsync($"{PodResourcesFolder}/kubelet.sock", new Lister(this));
        using GrpcChannel channel = UnixSockets.Dial($"{Folder}/{await _registered.Task}");
        var plugin = new DevicePlugin.DevicePluginClient(channel);
        DevicePluginOptions options = await plugin.GetDevicePluginOptionsAsync(new Empty(), deadline: DateTime.UtcNow + Deadline);
        using AsyncServerStreamingCall<ListAndWatchResponse> stream = plugin.ListAndWatch(new Empty());
        while (await stream.ResponseStream.MoveNext(CancellationToken.None))
        {
            ListAndWatchResponse list = stream.ResponseStream.Current;
            if (_given.Count == 0 && list.Devices.Count > 0 && list.Devices.All(d => d.Health == "Healthy"))
                await StartAsync(plugin, [.. list.Devices.Select(d => d.ID)], options.PreStartRequired);
        }
    }

    private async Task StartAsync(DevicePlugin.DevicePluginClient plugin, IReadOnlyList<string> ids, bool preStart)
    {
        var container = new ContainerAllocateRequest();
        container.DevicesIds.AddRange(ids);
        AllocateResponse answer = await plugin.AllocateAsync(
            new AllocateRequest { ContainerRequests = { container } },
            deadline: DateTime.UtcNow + Deadline
        );
        ContainerAllocateResponse first = answer.ContainerResponses[0];
        foreach ((string name, string value) in first.Envs)
            Console.WriteLine($"env {name}={value}");
        foreach (DeviceSpec device in first.Devices)
            Console.WriteLine($"node {device.HostPath} {device.Permissions}");
        _given = ids;
        if (preStart)
        {
            var start = new PreStartContainerRequest();
            start.DevicesIds.AddRange(ids);
            await plugin.PreStartContainerAsync(start, deadline: DateTime.UtcNow + Deadline);
        }

        Console.WriteLine("started");
    }

    internal sealed class Registrar(DeviceManager manager) : Registration.RegistrationBase
    {
        public override Task<Empty> Register(RegisterRequest request, ServerCallContext context)
        {
            if (request.ResourceName == manager.Resource)
                manager._registered.TrySetResult(request.Endpoint);
            return Task.FromResult(new Empty());
        }
    }

    internal sealed class Lister(DeviceManager manager) : PodResourcesLister.PodResourcesListerBase
    {
        public override Task<ListPodResourcesResponse> List(ListPodResourcesRequest request, ServerCallContext context)
        {
            var response = new ListPodResourcesResponse();
            if (manager._given.Count == 0 || File.Exists(PodEnded))
                return Task.FromResult(response);
            var devices = new ContainerDevices { ResourceName = manager.Resource };
            devices.DeviceIds.AddRange(manager._given);
            response.PodResources.Add(
                new PodResources
                {
                    Namespace = manager.Namespace,
                    Name = manager.Pod,
                    Containers =
                    {
                        new ContainerResources { Name = "compute", Devices = { devices } },
                    },
                }
            );
            return Task.FromResult(response);
        }
    }

    private string Resource => resource;

    private string Namespace => ns;

    private string Pod => pod;
}
