using Grpc.Net.Client;
using PciOperator.Kubelet;
using PciOperator.Kubelet.Wire.DraV1;
using PciOperator.Kubelet.Wire.PluginRegistration;

namespace PciOperator.Vm.Guest;

/// <summary>What a kubelet asks of the agent's DRA plugin, once for each call of this program: it finds the socket, registers the plugin, and asks.</summary>
internal static class Kubelet
{
    private const string Registry = "/var/lib/kubelet/plugins_registry";
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(45);

    /// <summary>Registers the plugin, and says where its service is.</summary>
    public static async Task<string> RegisterAsync()
    {
        string socket =
            Directory.EnumerateFiles(Registry, "*.sock").FirstOrDefault() ?? throw new IOException($"there is no plugin in {Registry}");
        using GrpcChannel channel = UnixSockets.Dial(socket);
        var registration = new Registration.RegistrationClient(channel);
        PluginInfo info = await registration.GetInfoAsync(new InfoRequest(), deadline: DateTime.UtcNow + Deadline);
        await registration.NotifyRegistrationStatusAsync(
            new RegistrationStatus { PluginRegistered = true },
            deadline: DateTime.UtcNow + Deadline
        );
        return info.Endpoint;
    }

    /// <summary>Prepares a ResourceClaim, and prints a line for each device: request, device and CDI ids.</summary>
    public static async Task<int> PrepareAsync(string ns, string name, string uid)
    {
        using GrpcChannel channel = UnixSockets.Dial(await RegisterAsync());
        var request = new NodePrepareResourcesRequest();
        request.Claims.Add(Of(ns, name, uid));
        NodePrepareResourceResponse answer = (
            await new DRAPlugin.DRAPluginClient(channel).NodePrepareResourcesAsync(request, deadline: DateTime.UtcNow + Deadline)
        ).Claims[uid];
        if (answer.Error.Length > 0)
        {
            Console.WriteLine(answer.Error);
            return 1;
        }

        foreach (Device device in answer.Devices)
            Console.WriteLine($"{string.Join(',', device.RequestNames)} {device.DeviceName} {string.Join(' ', device.CdiDeviceIds)}");
        return 0;
    }

    /// <summary>Gives a ResourceClaim back.</summary>
    public static async Task<int> UnprepareAsync(string ns, string name, string uid)
    {
        using GrpcChannel channel = UnixSockets.Dial(await RegisterAsync());
        var request = new NodeUnprepareResourcesRequest();
        request.Claims.Add(Of(ns, name, uid));
        string error = (
            await new DRAPlugin.DRAPluginClient(channel).NodeUnprepareResourcesAsync(request, deadline: DateTime.UtcNow + Deadline)
        )
            .Claims[uid]
            .Error;
        Console.WriteLine(error);
        return error.Length == 0 ? 0 : 1;
    }

    private static Claim Of(string ns, string name, string uid) =>
        new()
        {
            Namespace = ns,
            Name = name,
            Uid = uid,
        };
}
