using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>What is written into a PciNode for a claim.</summary>
internal static class AssignmentBuilder
{
    /// <summary>An allocation, with what the agent checks and does for each device.</summary>
    public static PciAssignment Of(PassthroughClaim claim, NodeAllocation allocation, PciNode node)
    {
        var devices = node.Status!.Devices!.ToDictionary(d => d.Address);
        var rules = (node.Spec.Rules ?? []).ToDictionary(r => r.Name);
        // A companion that no spec matches is kept as the device is for whose sake it goes along.
        string? leading = allocation
            .Devices.Select(d => devices.GetValueOrDefault(d.Address.ToString())?.Rule)
            .FirstOrDefault(r => r is not null);
        return For(
            claim,
            allocation.Devices.Select(d =>
            {
                if (!devices.TryGetValue(d.Address.ToString(), out PciNodeDevice? device))
                    throw new PlacementConflictException($"{d.Address} is no longer on node {node.Metadata.Name}");
                PciNodeRule? policy = (device.Rule ?? leading) is { } name ? rules.GetValueOrDefault(name) : null;
                return Device(device, HeldPolicy.Of(policy), d.Companion ? null : d.Request, d.Companion ? true : null);
            })
        ) with
        {
            NumaPreferenceMet = allocation.NumaPreferenceMet,
        };
    }

    /// <summary>
    /// What a claim had on a node whose PciNode was lost and is made again; null: nothing of it can be meant. What the agent's journal
    /// holds for the claim's UID is so, and is kept as the journal says. What only the claim's status names is decided as at a first
    /// placement, from the specs and aliases of now.
    /// </summary>
    public static PciAssignment? Again(PassthroughClaim claim, PciNode node, Func<string, AliasDefinition?> alias, DateTimeOffset now)
    {
        Dictionary<string, string> owners = Owners(node, claim.Metadata.Uid!);
        AssignmentStatus? held = node.Status!.Assignments?.FirstOrDefault(a =>
            a.ClaimUid == claim.Metadata.Uid && a.State != HoldingState.Rejected
        );
        return held is { Devices: { Count: > 0 } devices }
            ? OfHeld(claim, node, devices, owners)
            : OfStatus(claim, node, alias, owners, now);
    }

    private static PciAssignment? OfHeld(
        PassthroughClaim claim,
        PciNode node,
        IReadOnlyList<AssignedDeviceStatus> held,
        Dictionary<string, string> owners
    )
    {
        var listed = (node.Status!.Devices ?? []).ToDictionary(d => d.Address);
        if (held.Any(h => owners.ContainsKey(h.Address) || h.Policy is null || !listed.ContainsKey(h.Address)))
            return null;
        var served = (claim.Status?.Devices ?? []).ToDictionary(d => d.Address);
        return For(
            claim,
            held.Select(h =>
                Device(
                    listed[h.Address],
                    h.Policy!,
                    served.GetValueOrDefault(h.Address)?.Request,
                    served.GetValueOrDefault(h.Address)?.Companion
                )
            )
        ) with
        {
            NumaPreferenceMet = claim.Status?.NumaPreferenceMet,
        };
    }

    private static PciAssignment? OfStatus(
        PassthroughClaim claim,
        PciNode node,
        Func<string, AliasDefinition?> alias,
        Dictionary<string, string> owners,
        DateTimeOffset now
    )
    {
        var named = (claim.Status?.Devices ?? []).Select(d => d.Address).ToHashSet();
        if (named.Count == 0 || claim.Spec.Requests.Any(r => alias(r.Alias) is null))
            return null;
        var rules = (node.Spec.Rules ?? []).ToDictionary(r => r.Name, r => r.ToTags());
        // The devices that it names are free for it, and no others are. Guards are not asked: what was bound for it before looks foreign to
        // an agent without its journal, and that agent refuses by itself.
        var inventory = NodeInventory.Build(
            node.Metadata.Name!,
            [
                .. (node.Status!.Devices ?? []).Select(d =>
                    d.ToNodeDevice(rules) with
                    {
                        Owner = owners.GetValueOrDefault(d.Address),
                        BlockedReason = named.Contains(d.Address) ? null : "it is not the claim's",
                        BlocksPf = true,
                    }
                ),
            ],
            node.Status.ToSockets()
        );
        return
            Allocator.TryNode(inventory, claim.ToRequirements(alias, now)) is NodeVerdict.Served(var allocation)
            && named.SetEquals(allocation.Devices.Select(d => d.Address.ToString()))
            ? Of(claim, allocation, node)
            : null;
    }

    /// <summary>A device as the node shows it, and how it is kept for its claim.</summary>
    private static AssignedDevice Device(PciNodeDevice shown, HeldPolicy kept, string? request, bool? companion) =>
        new()
        {
            Address = shown.Address,
            StableId = shown.StableId,
            VendorId = shown.VendorId,
            ProductId = shown.ProductId,
            NumaNode = shown.NumaNode,
            IommuGroup = shown.IommuGroup,
            Request = request,
            Companion = companion,
            Driver = kept.Driver,
            Managed = kept.Managed,
            Reset = kept.Reset,
            OneTimeUse = kept.OneTimeUse,
        };

    /// <summary>The devices of a node that others than a claim have, by its spec and by its agent.</summary>
    private static Dictionary<string, string> Owners(PciNode node, string but)
    {
        var owners = new Dictionary<string, string>();
        foreach (PciAssignment assignment in node.Spec.Assignments ?? [])
        {
            foreach (AssignedDevice device in assignment.Devices)
                owners[device.Address] = assignment.ClaimUid;
        }

        foreach (
            AssignmentStatus held in (node.Status?.Assignments ?? []).Where(a => a.State != HoldingState.Rejected && a.ClaimUid != but)
        )
        {
            foreach (AssignedDeviceStatus device in held.Devices ?? [])
                owners.TryAdd(device.Address, held.ClaimUid);
        }

        return owners;
    }

    private static PciAssignment For(PassthroughClaim claim, IEnumerable<AssignedDevice> devices) =>
        new()
        {
            ClaimNamespace = claim.Metadata.NamespaceProperty!,
            ClaimName = claim.Metadata.Name!,
            ClaimUid = claim.Metadata.Uid!,
            Devices =
            [
                .. devices.Select(d =>
                    d with
                    {
                        Alias = d.Request is { } request ? claim.Spec.Requests.FirstOrDefault(r => r.Name == request)?.Alias : null,
                    }
                ),
            ],
        };
}
