using Grpc.Core;
using PciOperator.Kubelet.Wire.DraHealth;

namespace PciOperator.Kubelet;

/// <summary>Whether offered devices can be used, for the kubelet to show on their pods: said when it changes, and now and then.</summary>
internal sealed class HealthService(IKubeletNode node, Func<Task> nextChange, TimeProvider time) : DRAResourceHealth.DRAResourceHealthBase
{
    private const int LongestMessage = 1024;

    // The kubelet forgets what it was not told again in time.
    private static readonly TimeSpan Again = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan Forgotten = TimeSpan.FromMinutes(15);

    public override async Task NodeWatchResources(
        NodeWatchResourcesRequest request,
        IServerStreamWriter<NodeWatchResourcesResponse> responseStream,
        ServerCallContext context
    )
    {
        NodeWatchResourcesResponse? said = null;
        long at = 0;
        while (!context.CancellationToken.IsCancellationRequested)
        {
            Task change = nextChange();
            if (node.Offers is { } offers)
            {
                NodeWatchResourcesResponse now = Health(offers);
                if (said is null || !SameHealth(now, said) || time.GetElapsedTime(at) >= Again)
                {
                    await responseStream.WriteAsync(now, context.CancellationToken);
                    (said, at) = (now, time.GetTimestamp());
                }
            }

            try
            {
                await change.WaitAsync(Again, time, context.CancellationToken);
            }
            catch (TimeoutException)
            {
                // It is said again.
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private NodeWatchResourcesResponse Health(IReadOnlyList<OfferedClaim> offers)
    {
        var health = new NodeWatchResourcesResponse();
        long now = time.GetUtcNow().ToUnixTimeSeconds();
        foreach (OfferedClaim offer in offers.Where(o => o.ResourceName is null))
        {
            string message = offer.IsPrepared ? "" : offer.WhyNotPrepared ?? "it is being bound";
            health.Devices.AddRange(
                offer.Devices.Select(d => new DeviceHealth
                {
                    Device = new DeviceIdentifier { PoolName = offer.Pool, DeviceName = d.Name },
                    Health =
                        offer.IsPrepared ? HealthStatus.Healthy
                        : offer.IsBeingPrepared ? HealthStatus.Unknown
                        : HealthStatus.Unhealthy,
                    LastUpdatedTime = now,
                    HealthCheckTimeoutSeconds = (long)Forgotten.TotalSeconds,
                    Message = message.Length <= LongestMessage ? message : message[..LongestMessage],
                })
            );
        }

        return health;
    }

    private static bool SameHealth(NodeWatchResourcesResponse one, NodeWatchResourcesResponse other) =>
        one.Devices.Select(d => (d.Device, d.Health, d.Message)).SequenceEqual(other.Devices.Select(d => (d.Device, d.Health, d.Message)));
}
