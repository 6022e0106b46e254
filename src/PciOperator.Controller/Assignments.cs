using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>What is written into a PciNode for a claim.</summary>
internal static class Assignments
{
    /// <summary>An allocation, with what the agent checks and does for each device.</summary>
    public static PciAssignment Of(PassthroughClaim claim, NodeAllocation allocation, PciNode node)
    {
        var devices = node.Status!.Devices!.ToDictionary(d => d.Address);
        var rules = (node.Spec.Rules ?? []).ToDictionary(r => r.Name);
        // A companion that no spec matches is kept as the device is for whose sake it goes along.
        var leading = allocation.Devices.Select(d => devices.GetValueOrDefault(d.Address.ToString())?.Rule).FirstOrDefault(r => r is not null);
        return For(claim, allocation.Devices.Select(d =>
        {
            if (!devices.TryGetValue(d.Address.ToString(), out var device))
                throw new PlacementConflictException($"{d.Address} is no longer on node {node.Metadata.Name}");
            var policy = (device.Rule ?? leading) is { } name ? rules.GetValueOrDefault(name) : null;
            return new AssignedDevice
            {
                Address = device.Address,
                StableId = device.StableId,
                VendorId = device.VendorId,
                ProductId = device.ProductId,
                NumaNode = device.NumaNode,
                IommuGroup = device.IommuGroup,
                Request = d.Companion ? null : d.Request,
                Companion = d.Companion ? true : null,
                Driver = policy?.Driver ?? PassthroughDriver.VfioPci,
                Managed = policy?.Managed ?? true,
                Reset = policy?.Reset ?? ResetPolicy.BestEffort,
                OneTimeUse = policy?.OneTimeUse == true ? true : null,
            };
        })) with { NumaPreferenceMet = allocation.NumaPreferenceMet };
    }

    /// <summary>What a claim's own status says it has: for a PciNode that was lost and is made again.</summary>
    public static PciAssignment FromStatus(PassthroughClaim claim) => For(claim, claim.Status!.Devices!.Select(d => new AssignedDevice
    {
        Address = d.Address,
        VendorId = d.VendorId ?? "",
        ProductId = d.ProductId ?? "",
        NumaNode = d.NumaNode,
        IommuGroup = d.IommuGroup,
        Request = d.Request,
        Companion = d.Companion,
    })) with { NumaPreferenceMet = claim.Status.NumaPreferenceMet };

    private static PciAssignment For(PassthroughClaim claim, IEnumerable<AssignedDevice> devices) => new()
    {
        ClaimNamespace = claim.Metadata.NamespaceProperty!,
        ClaimName = claim.Metadata.Name!,
        ClaimUid = claim.Metadata.Uid!,
        Devices = [.. devices],
    };
}
