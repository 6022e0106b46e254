using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Cli.Cluster;

/// <summary>Who has a device.</summary>
/// <param name="Namespace">The claim's namespace.</param>
/// <param name="Name">The claim's name.</param>
/// <param name="Uid">The claim's UID.</param>
/// <param name="Request">The request that it serves; null: it goes along with its IOMMU group, or only the journal holds it.</param>
/// <param name="Holding">How far the node's agent is with it; null: it has not taken it up yet.</param>
internal sealed record Owner(string Namespace, string Name, string Uid, string? Request, HoldingState? Holding)
{
    /// <summary>The claim as <c>namespace/name</c>.</summary>
    public string Claim => $"{Namespace}/{Name}";
}

/// <summary>Who has the devices of a node: what its spec assigns, and whatever the agent's journal still holds (as the controller counts it).</summary>
internal sealed class Owners
{
    private readonly Dictionary<string, Owner> _byAddress = [];

    /// <param name="node">The node.</param>
    public Owners(PciNode node)
    {
        Dictionary<string, AssignmentStatus> held = [];
        foreach (AssignmentStatus status in node.Status?.Assignments ?? [])
            held.TryAdd(status.ClaimUid, status);
        foreach (PciAssignment assignment in node.Spec.Assignments ?? [])
        {
            HoldingState? state = held.GetValueOrDefault(assignment.ClaimUid)?.State;
            foreach (AssignedDevice device in assignment.Devices)
            {
                _byAddress[device.Address] = new Owner(
                    assignment.ClaimNamespace,
                    assignment.ClaimName,
                    assignment.ClaimUid,
                    device.Request,
                    state
                );
            }
        }

        foreach (AssignmentStatus status in held.Values.Where(s => s.State != HoldingState.Rejected))
        {
            foreach (AssignedDeviceStatus device in status.Devices ?? [])
            {
                _byAddress.TryAdd(
                    device.Address,
                    new Owner(status.ClaimNamespace ?? "?", status.ClaimName ?? "?", status.ClaimUid, null, status.State)
                );
            }
        }
    }

    /// <summary>Who has the device at an address; null: nobody.</summary>
    public Owner? Of(string address) => _byAddress.GetValueOrDefault(address);
}
