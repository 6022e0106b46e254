using PciOperator.Core;

namespace PciOperator.NovaVectors;

/// <summary>Checks an allocation by the rules alone, without the allocator's help.</summary>
public static class Soundness
{
    /// <summary>What is wrong; null when nothing is.</summary>
    /// <param name="node">The host before.</param>
    /// <param name="claim">What was asked for.</param>
    /// <param name="allocation">What was given.</param>
    public static string? Fault(NodeInventory node, ClaimRequirements claim, NodeAllocation allocation)
    {
        var seen = new HashSet<PciAddress>();
        foreach (AllocatedDevice given in allocation.Devices)
        {
            if (!seen.Add(given.Address))
                return $"{given.Address} is given twice";
            if (given.Companion)
                return $"{given.Address} is a companion, though each device has a group of its own";
            if (node.Find(given.Address) is not { Owner: null, Tags: { } tags } device)
                return $"{given.Address} is not there or not free";
            DeviceRequest? request = claim.Requests.SingleOrDefault(r => r.Name == given.Request);
            if (request is null)
                return $"{given.Address} serves no request";
            if (!request.Alias.AnyOf.Any(s => Describes(s, device.Function, tags)))
                return $"{given.Address} is not what alias {request.Alias.Name} asks for";
            if (!Near(node, claim, claim.PolicyOf(request), device.Function.NumaNode))
                return $"{given.Address} is not where policy {claim.PolicyOf(request).ToNova()} wants it";
        }

        foreach (DeviceRequest request in claim.Requests)
        {
            if (allocation.Devices.Count(d => d.Request == request.Name) != request.Count)
                return $"request {request.Name} has not its {request.Count} devices";
        }

        return Conflict(node, seen);
    }

    /// <summary>A PF with a VF of it in these devices, or one whose other half is somebody's; null without.</summary>
    public static string? Conflict(NodeInventory node, IReadOnlySet<PciAddress> devices)
    {
        foreach (NodeDevice vf in node.Devices.Where(d => d.Function.IsVirtual && d.Function.ParentAddress is not null))
        {
            PciAddress pf = vf.Function.ParentAddress!.Value;
            bool pfOwned = node.Find(pf)?.Owner is not null;
            if (devices.Contains(vf.Function.Address) && (devices.Contains(pf) || pfOwned))
                return $"{vf.Function.Address} and its PF {pf} are both taken";
            if (devices.Contains(pf) && vf.Owner is not null)
                return $"{pf} and its VF {vf.Function.Address} are both taken";
        }

        return null;
    }

    private static bool Describes(AliasSelector s, PciFunction f, DeviceTags tags) =>
        (s.VendorId is null || s.VendorId.Value.Value == f.VendorId.Value)
        && (s.ProductId is null || s.ProductId.Value.Value == f.ProductId.Value)
        && (s.Type is { } type ? type == f.Type : f.Type is DeviceType.Pci or DeviceType.Vf)
        && s.Traits.All(t => tags.Traits.Contains(t))
        && (s.LiveMigratable is null || s.LiveMigratable == tags.LiveMigratable)
        && !tags.RemoteManaged;

    private static bool Near(NodeInventory node, ClaimRequirements claim, NumaPolicy policy, int? numa)
    {
        if (claim.GuestNuma.Kind != GuestNumaKind.Nodes || policy == NumaPolicy.Preferred)
            return true;
        IReadOnlyList<int> cells = claim.GuestNuma.Nodes;
        if (numa is null)
            return policy == NumaPolicy.Legacy;
        if (cells.Contains(numa.Value))
            return true;
        return policy == NumaPolicy.Socket
            && node.Sockets.Values.All(s => s is not null)
            && cells.Any(c => node.Sockets.TryGetValue(c, out int? socket) && socket == node.Sockets[numa.Value]);
    }
}
