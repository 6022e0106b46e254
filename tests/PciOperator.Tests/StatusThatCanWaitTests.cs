using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Tests;

/// <summary>Which news of a PciNode's status can wait for the next write, and which somebody waits for.</summary>
public sealed class StatusThatCanWaitTests
{
    private static readonly AssignmentStatus Held = Of("held", HoldingState.Prepared);

    [Fact]
    public void That_devices_are_being_bound_and_that_they_were_handed_out_can_wait()
    {
        PciNode node = Node(Status(1, Held));
        Assert.True(NodeStatusWriter.CanWait(node, Status(2, Held, Of("new", HoldingState.Preparing))));
        Assert.True(NodeStatusWriter.CanWait(node, Status(1, Held with { Delivered = true })));
    }

    [Fact]
    public void That_devices_are_bound_refused_on_their_way_back_or_in_trouble_can_not()
    {
        PciNode node = Node(Status(1, Held, Of("new", HoldingState.Preparing)));
        foreach (HoldingState state in new[] { HoldingState.Prepared, HoldingState.Rejected, HoldingState.Releasing, HoldingState.Stuck })
            Assert.False(NodeStatusWriter.CanWait(node, Status(2, Held, Of("new", state))));
        Assert.False(NodeStatusWriter.CanWait(node, Status(2, Held, Of("new", HoldingState.Preparing) with { Reason = "WriteBlocked" })));
        Assert.False(NodeStatusWriter.CanWait(node, Status(1, Of("held", HoldingState.Stuck), Of("new", HoldingState.Preparing))));
    }

    [Fact]
    public void That_a_withdrawal_was_seen_can_not()
    {
        Assert.False(NodeStatusWriter.CanWait(Node(Status(1, Held)), Status(2)));
        Assert.False(NodeStatusWriter.CanWait(Node(Status(1, Held)), Status(2, Held)));
        Assert.False(NodeStatusWriter.CanWait(Node(Status(1, Held, Of("new", HoldingState.Preparing))), Status(2, Held)));
    }

    [Fact]
    public void What_a_PciNode_that_is_settling_or_says_nothing_yet_is_told_can_not()
    {
        PciNodeStatus status = Status(2, Held, Of("new", HoldingState.Preparing));
        Assert.False(NodeStatusWriter.CanWait(Node(null), status));
        PciNode settling = Node(Status(1, Held));
        Assert.False(NodeStatusWriter.CanWait(settling with { Spec = settling.Spec with { Settling = true } }, status));
    }

    [Fact]
    public void A_device_that_changes_can_not_unless_it_is_one_that_is_being_bound()
    {
        PciNode node = Node(Status(1, Held));
        PciNodeStatus bound = Status(2, Held, Of("new", HoldingState.Preparing));
        Assert.True(NodeStatusWriter.CanWait(node, Driver(bound, "0000:01:00.0-new", "vfio-pci")));
        Assert.False(NodeStatusWriter.CanWait(node, Driver(bound, "0000:01:00.0-held", "igb")));

        static PciNodeStatus Driver(PciNodeStatus status, string address, string driver) =>
            status with
            {
                Devices = [.. status.Devices!.Select(d => d.Address == address ? d with { Driver = driver } : d)],
            };
    }

    private static PciNode Node(PciNodeStatus? status) =>
        new()
        {
            Metadata = new() { Name = "node-1" },
            Spec = new PciNodeSpec(),
            Status = status,
        };

    private static AssignmentStatus Of(string claim, HoldingState state) =>
        new()
        {
            ClaimUid = claim,
            State = state,
            Devices = [new AssignedDeviceStatus { Address = "0000:01:00.0-" + claim }],
        };

    private static PciNodeStatus Status(long generation, params AssignmentStatus[] assignments) =>
        new()
        {
            ObservedGeneration = generation,
            Assignments = assignments,
            Devices =
            [
                .. new[] { "held", "new" }.Select(c => new PciNodeDevice
                {
                    Address = "0000:01:00.0-" + c,
                    VendorId = "8086",
                    ProductId = "10ca",
                }),
            ],
            Summary = new PciNodeSummary { Claims = assignments.Length },
        };
}
