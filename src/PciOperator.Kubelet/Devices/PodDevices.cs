using Grpc.Core;
using Grpc.Net.Client;
using PciOperator.Kubelet.Wire.PodResourcesV1;

namespace PciOperator.Kubelet;

/// <summary>A pod.</summary>
public sealed record PodReference(string Namespace, string Name)
{
    /// <summary>"namespace/name".</summary>
    public override string ToString() => $"{Namespace}/{Name}";
}

/// <summary>Which pods have an extended resource, by the kubelet's word (its pod resources API).</summary>
internal sealed class PodDevices(KubeletOptions options, TimeProvider time)
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);
    private readonly string _socket =
        $"{options.SocketRoot.TrimEnd('/')}{options.KubeletDirectory.TrimEnd('/')}/pod-resources/kubelet.sock";

    /// <summary>The pods that have some of these devices.</summary>
    /// <exception cref="HandoutException">The kubelet can't be asked.</exception>
    public async Task<IReadOnlyList<PodReference>> UsersAsync(string resource, IReadOnlyList<string> ids, CancellationToken ct) =>
        [
            .. (await ListAsync(ct))
                .Where(p => p.Containers.Any(c => c.Devices.Any(d => d.ResourceName == resource && d.DeviceIds.Any(ids.Contains))))
                .Select(p => new PodReference(p.Namespace, p.Name))
                .Distinct(),
        ];

    /// <summary>The pods that have an extended resource, by its name, of all of which the name is in a set.</summary>
    /// <exception cref="HandoutException">The kubelet can't be asked.</exception>
    public async Task<ILookup<string, PodReference>> UsersOfAsync(IReadOnlySet<string> resources, CancellationToken ct) =>
        (await ListAsync(ct))
            .SelectMany(p =>
                p.Containers.SelectMany(c => c.Devices)
                    .Where(d => d.DeviceIds.Count > 0 && resources.Contains(d.ResourceName))
                    .Select(d => (d.ResourceName, Pod: new PodReference(p.Namespace, p.Name)))
            )
            .Distinct()
            .ToLookup(p => p.ResourceName, p => p.Pod);

    private async Task<IReadOnlyList<PodResources>> ListAsync(CancellationToken ct)
    {
        try
        {
            using GrpcChannel channel = UnixSockets.Dial(_socket);
            var client = new PodResourcesLister.PodResourcesListerClient(channel);
            ListPodResourcesResponse answer = await client.ListAsync(
                new ListPodResourcesRequest(),
                deadline: time.GetUtcNow().UtcDateTime + Deadline,
                cancellationToken: ct
            );
            return answer.PodResources;
        }
        catch (RpcException e) when (!ct.IsCancellationRequested)
        {
            throw new HandoutException(
                $"the kubelet's {options.KubeletDirectory.TrimEnd('/')}/pod-resources/kubelet.sock, which names the pods that have devices, can't be asked: {e.Status.Detail}"
            );
        }
    }
}
