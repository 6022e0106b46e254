using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>Why a ResourceClaim does not get devices now.</summary>
/// <param name="Reason">One word.</param>
/// <param name="Message">A sentence for whoever looks at the pod: the kubelet shows it there.</param>
/// <param name="IsForbidden">It may not have them, as far as can be seen: that is reported.</param>
/// <param name="MayPass">What is waited for may come at any moment.</param>
internal sealed record ClaimProblem(string Reason, string Message, bool IsForbidden = false, bool MayPass = false);

/// <summary>What may be handed out to a ResourceClaim: what the cluster gave to this node, and nothing else, whatever the object says. Pure.</summary>
internal static class ClaimChecks
{
    /// <summary>Whether a ResourceClaim may have the devices that it was allocated.</summary>
    /// <param name="asked">As the kubelet names it.</param>
    /// <param name="claim">As the API server has it.</param>
    /// <param name="offers">What this node was given.</param>
    /// <param name="driver">Our name.</param>
    /// <returns>What is offered to it and what of that it gets; or why not.</returns>
    public static (
        OfferedClaim? Offer,
        IReadOnlyList<(AllocationResult Result, OfferedDevice Device)> Devices,
        ClaimProblem? Problem
    ) Check(ClaimReference asked, AllocatedClaim? claim, IReadOnlyList<OfferedClaim> offers, string driver)
    {
        if (claim is null)
            return No(Forbidden("NoSuchClaim", $"there is no ResourceClaim {asked}"));
        if (claim.Uid != asked.Uid)
        {
            return No(
                Forbidden(
                    "NoSuchClaim",
                    $"ResourceClaim {asked} is another one now: its UID is {claim.Uid}, and the pod was given {asked.Uid}; make the pod anew"
                )
            );
        }

        var ours = claim.Devices.Where(d => d.Driver == driver).ToList();
        if (!claim.IsAllocated || ours.Count == 0)
            return No(new ClaimProblem("NotAllocated", $"ResourceClaim {asked} has no device of {driver} allocated"));
        if (ours.Select(d => d.Pool).Distinct().Count() > 1 || offers.FirstOrDefault(o => o.Pool == ours[0].Pool) is not { } offer)
        {
            return No(
                Forbidden(
                    "NotGiven",
                    $"ResourceClaim {asked} was allocated {Listed(ours.Select(d => $"{d.Pool}/{d.Device}"))}, which is no PassthroughClaim's that has its devices on this node"
                )
            );
        }

        ClaimProblem? problem = Owner(asked, claim, offer) ?? Delivery(asked, offer);
        if (problem is not null)
            return No(problem);
        var devices = new List<(AllocationResult, OfferedDevice)>();
        foreach (AllocationResult result in ours)
        {
            if (result.Request != result.Device || offer.Devices.FirstOrDefault(d => d.Name == result.Device) is not { } device)
            {
                return No(
                    new ClaimProblem(
                        "NoSuchDevice",
                        $"ResourceClaim {asked} was allocated {result.Device} for its request {result.Request}, and PassthroughClaim {Name(offer)} has {Listed(offer.Devices.Select(d => d.Name))}, each for the request of its name"
                    )
                );
            }

            devices.Add((result, device));
        }

        return devices.DistinctBy(d => d.Item2.Address).Count() == devices.Count
            ? (offer, devices, null)
            : No(new ClaimProblem("NoSuchDevice", $"ResourceClaim {asked} was allocated one device twice"));
    }

    /// <summary>Whether devices can be opened now, as the journal and the host say.</summary>
    public static ClaimProblem? Readiness(OfferedClaim offer, IEnumerable<VfioBinding> bindings)
    {
        if (!offer.IsPrepared)
        {
            return new ClaimProblem(
                "NotPrepared",
                $"the devices of PassthroughClaim {Name(offer)} are not bound yet{(offer.WhyNotPrepared is { } why ? ": " + why.TrimEnd('.') : "")}; it is tried again",
                MayPass: offer.IsBeingPrepared
            );
        }

        return bindings.FirstOrDefault(b => b.WhyNot is not null) is { WhyNot: { } missing }
            ? new ClaimProblem("NotPrepared", $"a device of PassthroughClaim {Name(offer)} can't be used now: {missing}; it is tried again")
            : null;
    }

    private static ClaimProblem? Owner(ClaimReference asked, AllocatedClaim claim, OfferedClaim offer)
    {
        if (asked.Namespace != offer.Namespace)
        {
            return Forbidden(
                "OtherNamespace",
                $"ResourceClaim {asked} was allocated devices of a PassthroughClaim of another namespace, which only that namespace may use"
            );
        }

        if (offer.ResourceClaimUid is { } only)
        {
            return claim.Uid == only
                ? null
                : Forbidden(
                    "NotOwner",
                    $"the devices of PassthroughClaim {Name(offer)} are ResourceClaim {only}'s, and {asked} is {claim.Uid}"
                );
        }

        return asked.Name == offer.Name && claim.OwnerUid == offer.ClaimUid
            ? null
            : Forbidden(
                "NotOwner",
                $"only the ResourceClaim {Name(offer)} that belongs to the PassthroughClaim of that name gets its devices, and {asked} is not it: name {offer.Name} in the pod's resourceClaims"
            );
    }

    private static ClaimProblem? Delivery(ClaimReference asked, OfferedClaim offer) =>
        offer.ResourceName is { } resource
            ? Forbidden(
                "OtherDelivery",
                $"the devices of PassthroughClaim {Name(offer)} are handed out by the device plugin, as {resource}, and not to ResourceClaim {asked} as well"
            )
            : null;

    private static string Name(OfferedClaim offer) => $"{offer.Namespace}/{offer.Name}";

    private static string Listed(IEnumerable<string> names) => string.Join(", ", names);

    private static ClaimProblem Forbidden(string reason, string message) => new(reason, message, IsForbidden: true);

    private static (OfferedClaim?, IReadOnlyList<(AllocationResult, OfferedDevice)>, ClaimProblem?) No(ClaimProblem problem) =>
        (null, [], problem);
}
