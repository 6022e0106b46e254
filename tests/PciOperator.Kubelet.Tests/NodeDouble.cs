using System.Collections.Concurrent;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Kubelet.Tests;

/// <summary>What an agent would answer: the claims that a test gave to the node, and the ResourceClaims that it made.</summary>
internal sealed class NodeDouble(Func<PassthroughHost> host) : IKubeletNode
{
    public const string Driver = "pcioperator.io";

    private int _asked;

    public List<OfferedClaim>? Given { get; set; } = [];

    public ConcurrentDictionary<string, AllocatedClaim> Claims { get; } = new();

    public ConcurrentQueue<HandoutRefusal> Refusals { get; } = new();

    /// <summary>How often it was asked what the node was given.</summary>
    public int Asked => Volatile.Read(ref _asked);

    /// <summary>Called when a ResourceClaim is read.</summary>
    public Func<string, CancellationToken, Task>? Reading { get; set; }

    public IReadOnlyList<OfferedClaim>? Offers
    {
        get
        {
            Interlocked.Increment(ref _asked);
            var held = host().Holdings.ToDictionary(h => h.ClaimUid);
            return Given
                ?.Select(o =>
                    o with
                    {
                        IsPrepared = held.GetValueOrDefault(o.ClaimUid)?.State == HoldingState.Prepared,
                        IsBeingPrepared = held.GetValueOrDefault(o.ClaimUid) is null or { State: HoldingState.Preparing },
                        WhyNotPrepared = held.GetValueOrDefault(o.ClaimUid)?.Message,
                    }
                )
                .ToList();
        }
    }

    public async Task<AllocatedClaim?> ReadClaimAsync(string ns, string name, CancellationToken ct)
    {
        if (Reading is { } reading)
            await reading($"{ns}/{name}", ct);
        return Claims.GetValueOrDefault($"{ns}/{name}");
    }

    public void Report(HandoutRefusal refusal) => Refusals.Enqueue(refusal);
}
