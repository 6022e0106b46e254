using System.Text.Json;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// An agent that reports whatever its PciNode's schema takes: it harms its own node and no other, and nothing that reads it throws.
/// </summary>
[Turns(2)]
public sealed class HostileReportTests(ITestOutputHelper output)
{
    [TurnFact]
    public void Five_thousand_garbled_reports_keep_nothing_from_another_node()
    {
        (int leftOut, int elsewhere) = (0, 0);
        for (int seed = 1; seed <= 5000; seed++)
        {
            var random = new Random(seed);
            var view = new ClusterView();
            foreach (string name in (string[])["node-1", "node-2"])
            {
                view.SetNode(
                    name,
                    ViewHosts.CoreNode() with
                    {
                        Metadata = new V1ObjectMeta { Name = name, Uid = name },
                    }
                );
                view.SetAgentReady(name, true);
            }

            view.SetAlias("0a51", ViewHosts.Alias("0a51", "0a51").ToDefinition());
            view.SetPciNode("node-2", ViewHosts.Node("node-2", "0a51", "0a52"));
            PciNode garbled = Node("node-1", Report(random));
            view.SetPciNode("node-1", garbled);
            leftOut += garbled.Status!.Devices!.Count - Reports.Readable(garbled).Status!.Devices!.Count;

            PassthroughClaim there = ViewHosts.Claim("there", "0a51");
            there.Spec.NodeName = "node-2";
            GroupDecision decision = view.Place([ViewHosts.ToPlace(view, there)], null);
            Assert.True(decision.Node == "node-2", $"seed {seed}: {decision.Summary}");
            PassthroughClaim here = ViewHosts.Claim("here", "0a51");
            here.Spec.NodeName = "node-1";
            GroupDecision odd = view.Place([ViewHosts.ToPlace(view, here)], null);
            elsewhere += odd.Node == "node-1" ? 1 : 0;
            Assert.Equal(odd.Node is null, odd.Summary.StartsWith("0/2 nodes can serve it: ", StringComparison.Ordinal));

            // What is said of the node, and of claims there, in words that a person reads.
            (_, string reason, string message) = NodePools.Describe(Reports.Readable(garbled), true);
            Assert.NotEmpty(reason);
            Assert.DoesNotContain(message, c => char.IsControl(c) && c != '\n');
            foreach (AssignmentStatus report in Reports.Readable(garbled).Status!.Assignments ?? [])
            {
                PassthroughClaimStatus status = ClaimStatus.Placed(
                    ViewHosts.Claim("c", "0a51"),
                    Reports.Readable(garbled),
                    Assignment(report.ClaimUid),
                    report,
                    null,
                    DeliveryState.OnTheNode,
                    DateTimeOffset.UnixEpoch
                );
                Assert.DoesNotContain(status.Conditions!.SelectMany(c => c.Reason + c.Message), char.IsControl);
            }
        }

        output.WriteLine($"{leftOut} devices left out; {elsewhere} claims were placed on the garbled node");
        Assert.True(leftOut > 10_000 && elsewhere > 10);
    }

    [TurnFact]
    public async Task Claims_are_placed_while_an_agent_reports_one_garbled_status_after_the_other()
    {
        const int rounds = 60;
        await using ClockedController lab = await ClockedController.StartAsync(2);
        await lab.ReportAsync("node-2", null, [.. Enumerable.Repeat("0a51", rounds)]);
        int stored = 0;
        for (int i = 0; i < rounds; i++)
        {
            try
            {
                await lab.ReportAsync("node-1", Report(new Random(i), storable: true));
                stored++;
            }
            catch (ApiException refused) when (refused.StatusCode == System.Net.HttpStatusCode.UnprocessableEntity)
            {
                output.WriteLine(refused.Message[..Math.Min(refused.Message.Length, 300)]);
            }

            await lab.ClaimAsync($"c{i}", "drive-0a51", node: i % 2 == 0 ? "node-2" : null);
            await lab.UntilAsync(
                $"claim {i} to be placed",
                () => lab.Client.GetAsync<PassthroughClaim>($"c{i}", "default"),
                c => c.Status?.Conditions.IsTrue(Conditions.Scheduled) == true
            );
        }

        output.WriteLine($"{stored} of {rounds} reports stored");
        Assert.True(stored > rounds / 2);
        Assert.Empty(lab.Log.Errors);
    }

    [Theory]
    [InlineData("""{"address":"0000:01:00.0","parentAddress":"0000:01:00.0","rule":"drives","type":"type-VF"}""")]
    [InlineData(
        """{"address":"0000:01:00.0","parentAddress":"0000:02:00.0","rule":"drives","type":"type-PF"},{"address":"0000:02:00.0","parentAddress":"0000:01:00.0","rule":"drives","type":"type-PF"}"""
    )]
    [InlineData(
        """{"address":"0000:01:00.0","parentAddress":"0000:02:00.0","rule":"drives","type":"type-VF"},{"address":"0000:02:00.0","parentAddress":"0000:01:00.0","rule":"drives","type":"type-VF"}"""
    )]
    [InlineData("""{"address":"0000:01:00.0","parentAddress":"0000:7f:00.0","rule":"drives","type":"type-VF"}""")]
    [InlineData(
        """{"address":"0000:01:00.0","iommuGroup":0,"rule":"drives","type":"type-PCI"},{"address":"0000:02:00.0","iommuGroup":0,"rule":"gone","type":"type-PCI"}"""
    )]
    public void Families_that_can_not_be_are_only_their_own_trouble(string devices)
    {
        string odd = devices.Replace(
            "\"type\"",
            "\"vendorId\":\"8086\",\"productId\":\"0a51\",\"state\":\"available\",\"type\"",
            StringComparison.Ordinal
        );
        const string good =
            """{"address":"0000:05:00.0","vendorId":"8086","productId":"0a52","iommuGroup":5,"rule":"drives","state":"available","type":"type-PCI"}""";
        var read = (PciNodeStatus)
            JsonSerializer.Deserialize(
                $$"""{"devices":[{{odd}},{{good}}]}""",
                EntityJson.OptionsWith(PciOperatorJsonContext.Default).GetTypeInfo(typeof(PciNodeStatus))
            )!;
        ClusterView view = ViewHosts.View();
        view.SetPciNode("node-1", Node("node-1", read with { Conditions = ViewHosts.Node("node-1").Status!.Conditions }));
        GroupDecision served = view.Place([ViewHosts.ToPlace(view, ViewHosts.Claim("good", "0a52"))], null);
        Assert.Equal("0000:05:00.0", Assert.Single(served.Allocations[0].Devices).Address.ToString());
        view.Place([ViewHosts.ToPlace(view, ViewHosts.Claim("odd", "0a51"))], null);
    }

    private static PciNode Node(string name, PciNodeStatus status) =>
        ViewHosts.Node(name) with
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                Uid = "garbled",
                Generation = 3,
            },
            Status = status,
        };

    private static PciAssignment Assignment(string uid) =>
        new()
        {
            ClaimNamespace = "default",
            ClaimName = "c",
            ClaimUid = uid,
            Devices =
            [
                new AssignedDevice
                {
                    Address = "0000:01:00.0",
                    VendorId = "8086",
                    ProductId = "0a51",
                    Request = "r",
                },
            ],
        };

    /// <param name="random">What it is made of.</param>
    /// <param name="storable">Only what the schema takes.</param>
    private static PciNodeStatus Report(Random random, bool storable = false)
    {
        string[] addresses =
        [
            "0000:01:00.0",
            "0000:01:00.1",
            "0000:02:00.0",
            "ffffffff:ff:1f.7",
            "00000000:01:00.0",
            "10000:e1:00.0",
            .. storable ? (string[])[] : ["0000:AB:00.0", "0000:00:20.0", "", "\u001b[2J", "zz"],
        ];
        string[] ids = ["8086", "0a51", "0a51", "0a51", "0000", "ffff", .. storable ? (string[])[] : ["zzzz", "", "8", "0A51"]];
        string?[] texts = [null, "", "\u001b[31mred\u0000", "\u202eevil", new string('x', 64), "NotClean"];
        string?[] words =
        [
            null,
            "",
            "NotClean",
            "InUse",
            "HostUnreadable",
            new string('x', 64),
            .. storable ? (string[])[] : ["not a reason!", "\u001b"],
        ];
        int?[] numbers = [null, 0, 1, 1, 63, 127, int.MaxValue, .. storable ? (int?[])[] : [-1, int.MinValue]];
        string?[] rules = ["drives", "drives", null, "", "gone", "\u001b"];
        T Of<T>(T[] from) => from[random.Next(from.Length)];

        int count = random.Next(200) == 0 ? 1024 : random.Next(12);
        var status = new PciNodeStatus
        {
            ObservedGeneration = Of<long?>([null, 0, 3, long.MaxValue, long.MinValue]),
            KernelVersion = Of(texts),
            BootId = Of(texts),
            NumaNodes = Of<IReadOnlyList<PciNodeNumaNode>?>([
                null,
                [new() { Id = 1, Socket = Of(numbers) }, new() { Id = storable ? int.MinValue : 1, Socket = -1 }],
            ]),
            Summary = new PciNodeSummary
            {
                Devices = Of(numbers) ?? 0,
                Available = Of(numbers) ?? 0,
                Claims = Of(numbers),
            },
            Devices =
            [
                .. Enumerable
                    .Range(0, count)
                    .Select(i => new PciNodeDevice
                    {
                        Address = count == 1024 ? $"{i / 256:x4}:{i % 256:x2}:00.0" : Of(addresses),
                        StableId = Of(texts),
                        VendorId = random.Next(3) == 0 ? Of(ids) : "8086",
                        ProductId = random.Next(3) == 0 ? Of(ids) : "0a51",
                        SubsystemVendorId = Of(ids),
                        ClassCode = Of<string?>([null, "", "010802", "060400", storable ? null : "zz"]),
                        Name = Of(texts),
                        Type = Of(Enum.GetValues<DeviceType>()),
                        ParentAddress = random.Next(2) == 0 ? null : Of(addresses),
                        NumaNode = Of(numbers),
                        Socket = Of(numbers),
                        IommuGroup = Of(numbers),
                        Driver = Of(texts),
                        TotalVfs = Of(numbers),
                        NumVfs = Of(numbers),
                        ResetMethods = Of<IReadOnlyList<string>?>([null, [], ["flr", "\u001b"]]),
                        Bridge = Of<bool?>([null, false, true]),
                        Rule = Of(rules),
                        State = Of<DeviceState?>([null, DeviceState.Available, .. Enum.GetValues<DeviceState>()]),
                        Reason = Of(texts),
                        WithheldBy = Of(words),
                        Problems = Of<IReadOnlyList<PciDeviceProblem>?>([null, [new() { Type = "LinkDegraded", Message = Of(texts) }]]),
                    }),
            ],
            Assignments =
            [
                .. Enumerable
                    .Range(0, random.Next(4))
                    .Select(_ => new AssignmentStatus
                    {
                        ClaimUid = Of<string>(["there", "free", "c", storable ? "d" : "", "\u001b"]),
                        ClaimName = Of(texts),
                        State = Of(Enum.GetValues<HoldingState>()),
                        Reason = Of(words),
                        Message = Of(texts),
                        Devices = Of<IReadOnlyList<AssignedDeviceStatus>?>([
                            null,
                            [],
                            [
                                new()
                                {
                                    Address = Of(addresses),
                                    Driver = Of(texts),
                                    DeviceNode = Of(texts),
                                },
                                new() { Address = storable ? "0000:7f:00.0" : Of(addresses) },
                            ],
                        ]),
                    }),
            ],
            Pools =
            [
                .. Enumerable
                    .Range(0, random.Next(50) == 0 ? 1024 : 2)
                    .Select(_ => new PciPool
                    {
                        VendorId = Of(ids),
                        ProductId = Of(ids),
                        Rule = Of(rules),
                        Total = Of(numbers) ?? 0,
                        Available = Of(numbers) ?? 0,
                    }),
            ],
            Conditions =
            [
                new V1Condition
                {
                    Type = Conditions.InventoryReady,
                    Status = Of(["True", "True", "False", "Unknown"]),
                    Reason = "A",
                    Message = Of(texts) ?? "",
                    LastTransitionTime = Of([DateTime.UnixEpoch, DateTime.MinValue, DateTime.MaxValue]),
                },
                new V1Condition
                {
                    Type = "IommuEnabled",
                    Status = "True",
                    Reason = "A",
                    Message = Of(texts) ?? "",
                    ObservedGeneration = long.MaxValue,
                    LastTransitionTime = DateTime.UnixEpoch,
                },
            ],
        };
        return storable
            ? status with
            {
                Devices = [.. status.Devices!.DistinctBy(d => d.Address)],
                Assignments = [.. status.Assignments!.DistinctBy(a => a.ClaimUid)],
            }
            : status;
    }
}
