using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>An alias whose ids are those of devices, and whose type, or Nova's default where it has none, is not.</summary>
public class OtherTypeTests
{
    private const string X520 = "8086:154d";

    [Theory]
    [InlineData(DeviceType.Pf, null, "have no device of alias nic but of type-PF (give deviceType: type-PF)")]
    [InlineData(DeviceType.Pci, DeviceType.Pf, "have no device of alias nic but of type-PCI (give deviceType: type-PCI)")]
    [InlineData(DeviceType.Vf, DeviceType.Pci, "have no device of alias nic but of type-VF (give deviceType: type-VF)")]
    [InlineData(DeviceType.Vdpa, null, "have no device of alias nic")]
    public void The_type_that_would_do_is_said(DeviceType there, DeviceType? asked, string reason)
    {
        NodeDevice device = Device("0000:22:00.0", X520, there);
        ClaimRequirements claim = Claim((Alias("nic", X520, asked), 1));
        Assert.Equal(new RefusalReason(RefusalCodes.NoDevice, reason), Refused(NodeInventory.Build("n", [device]), claim));
        Decision decision = Allocator.Decide(
            ClusterInventory.Of([NodeInventory.Build("n", [device]), NodeInventory.Build("other", [Device("0000:23:00.0", "8086:0a54")])]),
            claim
        );
        bool helps = reason.Contains("give", StringComparison.Ordinal);
        Assert.Contains(helps ? $"1 has{reason[4..]}" : "2 have no device of alias nic.", decision.Summary, StringComparison.Ordinal);
        Assert.Equal(helps ? 2 : 1, decision.Refusals.Count);
    }

    [Fact]
    public void Where_ids_differ_too_nothing_is_said_of_types() =>
        Assert.Equal(
            "have no device of alias nic",
            Refused(NodeInventory.Build("n", [Device("0000:22:00.0", "8086:1572", DeviceType.Pf)]), Claim((Alias("nic", X520), 1))).Text
        );

    [Fact]
    public void A_device_of_the_type_that_is_taken_is_another_matter() =>
        Assert.Equal(
            "have none free (1 wanted)",
            Refused(
                NodeInventory.Build("n", [Device("0000:22:00.0", X520, owner: "x"), Device("0000:23:00.0", X520, DeviceType.Pf)]),
                Claim((Alias("nic", X520), 1))
            ).Text
        );
}
