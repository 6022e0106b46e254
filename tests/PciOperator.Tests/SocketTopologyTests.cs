using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Tests;

/// <summary>
/// The socket policy knows every NUMA node's socket, also of nodes without a device: from the PciNode's status to the decision.
/// </summary>
public class SocketTopologyTests
{
    [Theory]
    [InlineData(0, true)]
    [InlineData(1, false)]
    [InlineData(null, false)]
    public void A_guest_on_a_NUMA_node_without_a_device_is_served_from_its_socket(int? socket, bool served) =>
        Assert.Equal(served, IsPlaced(View(Node([new() { Id = 0, Socket = 0 }, new() { Id = 1, Socket = socket }]))));

    [Fact]
    public void Claims_that_wait_hear_of_a_topology_that_was_not_known()
    {
        ClusterView view = View(Node(null));
        Assert.False(IsPlaced(view));
        int heard = 0;
        view.OffersChanged += () => heard++;
        view.SetPciNode("node-1", Node([new() { Id = 0, Socket = 0 }, new() { Id = 1, Socket = 0 }]));
        Assert.Equal(1, heard);
        Assert.True(IsPlaced(view));
    }

    private static bool IsPlaced(ClusterView view)
    {
        var alias = new AliasDefinition
        {
            Name = "nvme",
            AnyOf = [new AliasSelector { ProductId = PciId.Parse("0a54") }],
            NumaPolicy = NumaPolicy.Socket,
        };
        var requirements = new ClaimRequirements
        {
            ClaimUid = "uid",
            GuestNuma = Core.GuestNuma.On(1),
            Requests = [new DeviceRequest { Name = "nvme", Alias = alias }],
        };
        return view.Place(
            [
                new ClaimToPlace(
                    new PassthroughClaim
                    {
                        Metadata = new()
                        {
                            Name = "vm",
                            NamespaceProperty = "default",
                            Uid = "uid",
                        },
                    },
                    requirements
                ),
            ],
            null
        ).Node
            is not null;
    }

    private static ClusterView View(PciNode node)
    {
        var view = new ClusterView();
        view.SetNode(
            "node-1",
            new V1Node
            {
                Metadata = new() { Name = "node-1" },
                Status = new() { Conditions = [new() { Type = "Ready", Status = "True" }] },
            }
        );
        view.SetAgentReady("node-1", true);
        view.SetPciNode("node-1", node);
        return view;
    }

    private static PciNode Node(IReadOnlyList<PciNodeNumaNode>? topology) =>
        new()
        {
            Metadata = new() { Name = "node-1" },
            Spec = new() { Rules = [new PciNodeRule { Name = "nvme" }] },
            Status = new()
            {
                NumaNodes = topology,
                Devices =
                [
                    new()
                    {
                        Address = "0000:21:00.0",
                        VendorId = "8086",
                        ProductId = "0a54",
                        NumaNode = 0,
                        Socket = 0,
                        IommuGroup = 7,
                        Rule = "nvme",
                        State = DeviceState.Available,
                    },
                ],
                Conditions = [new() { Type = Conditions.InventoryReady, Status = "True" }],
            },
        };
}
