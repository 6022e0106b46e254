using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;

namespace PciOperator.Tests;

/// <summary>What a claim had on a PciNode that was lost is judged with the host's whole topology, as at its first placement.</summary>
public class TopologyOfLostNodesTests
{
    [Theory]
    [InlineData(0, true)]
    [InlineData(1, false)]
    public void A_claim_keeps_a_device_of_its_socket_though_its_own_NUMA_node_has_none(int socketOfGuest, bool kept)
    {
        var alias = new AliasDefinition
        {
            Name = "nvme",
            AnyOf = [new AliasSelector { ProductId = PciId.Parse("0a54") }],
            NumaPolicy = NumaPolicy.Socket,
        };
        var claim = new PassthroughClaim
        {
            Metadata = new()
            {
                Name = "vm",
                NamespaceProperty = "default",
                Uid = "uid",
            },
            Spec = new() { Requests = [new ClaimRequest { Name = "nvme", Alias = "nvme" }], NumaNodes = [1] },
            Status = new() { NodeName = "node-1", Devices = [new() { Address = "0000:21:00.0", Request = "nvme" }] },
        };
        var node = new PciNode
        {
            Metadata = new() { Name = "node-1" },
            Spec = new() { Rules = [new PciNodeRule { Name = "nvme" }] },
            Status = new()
            {
                NumaNodes = [new() { Id = 0, Socket = 0 }, new() { Id = 1, Socket = socketOfGuest }],
                Devices =
                [
                    new PciNodeDevice
                    {
                        Address = "0000:21:00.0",
                        VendorId = "8086",
                        ProductId = "0a54",
                        NumaNode = 0,
                        Socket = 0,
                        IommuGroup = 11,
                        Rule = "nvme",
                        State = DeviceState.Available,
                    },
                ],
            },
        };
        Assert.Equal(kept, AssignmentBuilder.Again(claim, node, _ => alias, DateTimeOffset.UnixEpoch) is not null);
    }
}
