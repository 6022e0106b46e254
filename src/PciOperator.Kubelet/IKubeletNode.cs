using PciOperator.Core;

namespace PciOperator.Kubelet;

/// <summary>What the plugins ask of the agent: what the cluster gave to this node, and what the API server says of a ResourceClaim.</summary>
public interface IKubeletNode
{
    /// <summary>The claims whose devices this node was given, as they are now; null: that is not known yet.</summary>
    IReadOnlyList<OfferedClaim>? Offers { get; }

    /// <summary>A ResourceClaim as the API server has it now; null: there is none of that name.</summary>
    /// <exception cref="Exception">It can't be read: the message says why.</exception>
    Task<AllocatedClaim?> ReadClaimAsync(string ns, string name, CancellationToken ct);

    /// <summary>Somebody who may not have devices has asked for them.</summary>
    void Report(HandoutRefusal refusal);
}

/// <summary>A claim whose devices this node was given.</summary>
public sealed record OfferedClaim
{
    /// <summary>The claim's UID.</summary>
    public required string ClaimUid { get; init; }

    /// <summary>Its namespace: only what is in there may have the devices.</summary>
    public required string Namespace { get; init; }

    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>The pool that its devices are offered in.</summary>
    public required string Pool { get; init; }

    /// <summary>The only ResourceClaim that may have them; null: the one of the claim's name that the claim owns.</summary>
    public string? ResourceClaimUid { get; init; }

    /// <summary>The extended resource by which the device plugin hands them out; null: they are handed out by DRA.</summary>
    public string? ResourceName { get; init; }

    /// <summary>Whether all of them are bound for the claim and verified, by the journal.</summary>
    public required bool IsPrepared { get; init; }

    /// <summary>They are being bound: it is worth waiting.</summary>
    public bool IsBeingPrepared { get; init; }

    /// <summary>What keeps them from being prepared, as a sentence; null: nothing is said.</summary>
    public string? WhyNotPrepared { get; init; }

    /// <summary>The devices, companions included.</summary>
    public required IReadOnlyList<OfferedDevice> Devices { get; init; }
}

/// <summary>One device of an offered claim.</summary>
/// <param name="Name">What it is offered as, and asked for as.</param>
/// <param name="Address">Where it is.</param>
/// <param name="Group">Its IOMMU group, as it was when it was given away.</param>
/// <param name="IsCompanion">It goes along with a device that was asked for.</param>
public sealed record OfferedDevice(string Name, PciAddress Address, int? Group, bool IsCompanion);

/// <summary>What is looked at of a ResourceClaim.</summary>
public sealed record AllocatedClaim
{
    /// <summary>Its UID.</summary>
    public required string Uid { get; init; }

    /// <summary>The UID of the claim of ours that is its controlling owner; null: none is.</summary>
    public string? OwnerUid { get; init; }

    /// <summary>By which name a pod knows it, when it was made from a template; null otherwise.</summary>
    public string? PodClaimName { get; init; }

    /// <summary>Whether it is allocated.</summary>
    public bool IsAllocated { get; init; }

    /// <summary>What was allocated to it, by all drivers.</summary>
    public IReadOnlyList<AllocationResult> Devices { get; init; } = [];
}

/// <summary>One result of an allocation.</summary>
public sealed record AllocationResult(string Request, string Driver, string Pool, string Device);

/// <summary>A ResourceClaim as the kubelet names it.</summary>
public sealed record ClaimReference(string Namespace, string Name, string Uid)
{
    /// <summary>"namespace/name".</summary>
    public override string ToString() => $"{Namespace}/{Name}";
}

/// <summary>Devices that were not handed out, to somebody who may not have them.</summary>
/// <param name="Reason">One word.</param>
/// <param name="Message">A sentence.</param>
public sealed record HandoutRefusal(string Reason, string Message);
