using System.Text;
using System.Text.Json;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Lists that are derived from something without bound: what happens at the limit.</summary>
[Turns(4)]
public sealed class LimitTests
{
    [Fact]
    public async Task More_specs_than_a_PciNode_takes_leave_out_the_last_ones_and_revocation_goes_on()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        for (int i = 0; i < 130; i++)
            await lab.Client.CreateAsync(Spec($"s{i:000}", priority: 1000 - i));
        await lab.UntilAsync("128 rules", () => lab.Client.GetAsync<PciNode>("node-1"), n => n.Spec.Rules?.Count == 128);
        foreach (string name in new[] { "s128", "s129" })
        {
            PciDeviceSpec spec = await lab.UntilAsync(
                $"{name} to say that it is left out",
                () => lab.Client.GetAsync<PciDeviceSpec>(name),
                s => s.Status?.Conditions.Find(Conditions.Applied)?.Status == "False"
            );
            Assert.Contains(
                "1 node has no room for it",
                spec.Status!.Conditions.Find(Conditions.Applied)!.Message,
                StringComparison.Ordinal
            );
            Assert.Contains("node-1", spec.Status.Conditions.Find(Conditions.Applied)!.Message, StringComparison.Ordinal);
            Assert.True(spec.Status.Conditions.IsTrue(Conditions.Stalled));
        }

        Assert.Null((await lab.Client.GetAsync<PciDeviceSpec>("s127"))!.Status!.Conditions.Find(Conditions.Applied));

        // What is taken back goes at once, and the next one takes its room.
        await lab.Client.DeleteAsync<PciDeviceSpec>("s000");
        PciNode node = await lab.UntilAsync(
            "s000 to be revoked",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Spec.Rules?.Any(r => r.Name == "s000") == false
        );
        Assert.Equal("s128", node.Spec.Rules![127].Name);
        await lab.UntilAsync(
            "s128 to be applied",
            () => lab.Client.GetAsync<PciDeviceSpec>("s128"),
            s => s.Status?.Conditions.Find(Conditions.Applied)?.Status == "True" && s.Status.Conditions.Find(Conditions.Stalled) is null
        );
    }

    [Fact]
    public void A_rule_that_is_too_big_leaves_out_all_after_it()
    {
        PciNodeRule big = PciNodeRules.Of(Spec("big", 2), "n") with
        {
            Tags = Enumerable.Range(0, 900).ToDictionary(i => $"t{i}", _ => new string('x', 255)),
        };
        (List<PciNodeRule> kept, List<string> leftOut) = NodeShares.Fit([
            PciNodeRules.Of(Spec("first", 3), "n"),
            big,
            PciNodeRules.Of(Spec("last", 1), "n"),
        ]);
        Assert.Equal(["first"], kept.Select(r => r.Name));
        Assert.Equal(["big", "last"], leftOut);
    }

    [Fact]
    public void What_assignments_take_is_never_guessed_too_low()
    {
        List<PciAssignment> assignments = Assignments(20, devices: 7);
        int size = assignments.Sum(a =>
            StoredSize.Of(JsonSerializer.SerializeToUtf8Bytes(a, PciOperatorJsonContext.Default.PciAssignment))
        );
        Assert.InRange(NodeShares.Size(assignments), size, size * 3 / 2);
    }

    [Fact]
    public void Devices_that_do_not_fit_go_group_by_group_and_never_those_that_are_given_away()
    {
        var devices = Enumerable.Range(0, 1200).Select(i => Device(i) with { IommuGroup = i / 4 }).ToList();
        IReadOnlyList<PciNodeDevice> shown = StatusShare.Devices(devices, d => d.Address == devices[1199].Address, []);
        Assert.InRange(
            shown.Sum(d => StoredSize.Of(JsonSerializer.SerializeToUtf8Bytes(d, PciOperatorJsonContext.Default.PciNodeDevice))),
            1,
            StoredSize.Status
        );
        Assert.InRange(shown.Count, 400, StatusShare.Most);
        Assert.All(shown.GroupBy(d => d.IommuGroup), g => Assert.Equal(4, g.Count()));
        Assert.Contains(shown, d => d.Address == devices[1199].Address);
        Assert.Equal(shown.OrderBy(d => d.Address, StringComparer.Ordinal).Select(d => d.Address), shown.Select(d => d.Address));
    }

    [Fact]
    public void Devices_of_usual_length_all_fit()
    {
        var devices = Enumerable
            .Range(0, 640)
            .Select(i =>
                Device(i) with
                {
                    Name = "Ethernet Controller Virtual Function",
                    Reason = null,
                    Problems = null,
                    Serial = null,
                    StableId = $"pf:0000:31:00.0/{i}",
                    ResetMethods = ["flr"],
                }
            )
            .ToList();
        Assert.Equal(devices, StatusShare.Devices(devices, _ => false, []));
    }

    [Fact]
    public void More_claims_than_status_takes_leave_out_those_that_the_spec_names_and_that_have_nothing_yet()
    {
        List<AssignmentStatus> all =
        [
            .. Enumerable
                .Range(0, 1030)
                .Select(i => new AssignmentStatus
                {
                    ClaimUid = $"{i:0000}",
                    State =
                        i < 10 ? HoldingState.Releasing
                        : i < 100 ? HoldingState.Preparing
                        : HoldingState.Prepared,
                    Message = new string('m', 1024),
                }),
        ];
        IReadOnlyList<AssignmentStatus> kept = StatusShare.Assignments(
            all,
            uid => string.CompareOrdinal(uid, "0010") >= 0,
            out bool complete
        );
        Assert.True(complete);
        Assert.Equal(1024, kept.Count);
        Assert.Equal(10, kept.Count(a => a.State == HoldingState.Releasing));
        Assert.Equal(930, kept.Count(a => a.State == HoldingState.Prepared));
        Assert.All(kept, a => Assert.InRange(a.Message!.Length, 1, 100));
        StatusShare.Assignments(all, _ => false, out complete);
        Assert.False(complete);
    }

    [TurnFact]
    public async Task A_PciNode_with_every_share_full_is_stored_and_written_again()
    {
        await using TestApiServer server = await TestApiServer.RealAsync();
        await Kubectl.RunAsync(server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        using var controller = new EntityClient(
            ServiceAccounts.Access(server, "pcioperator-controller"),
            PciOperatorJsonContext.Default,
            fieldManager: "pcioperator-controller"
        );
        using var agent = new EntityClient(
            ServiceAccounts.Access(server, "pcioperator-agent", "full"),
            PciOperatorJsonContext.Default,
            fieldManager: "pcioperator-agent"
        );

        List<PciNodeRule> rules = NodeShares
            .Fit([
                .. Enumerable
                    .Range(0, 400)
                    .Select(i =>
                        PciNodeRules.Of(Spec($"s{i:000}" + new string('n', 240), 0), "full") with
                        {
                            Traits = [.. Enumerable.Range(0, 8).Select(t => $"CUSTOM_{t}_" + new string('T', 200))],
                        }
                    ),
            ])
            .Kept;
        List<PciAssignment> assignments = Assignments(1024, devices: 2);
        while (!NodeShares.Fits(assignments))
            assignments = [.. assignments.SkipLast(1)];
        List<AssignmentStatus> said =
        [
            .. assignments.Select(a => new AssignmentStatus
            {
                ClaimUid = a.ClaimUid,
                ClaimNamespace = a.ClaimNamespace,
                ClaimName = a.ClaimName,
                State = HoldingState.Stuck,
                Reason = "WriteBlocked",
                Message = new string('m', 1024),
                Devices =
                [
                    .. a.Devices.Select(d => new AssignedDeviceStatus
                    {
                        Address = d.Address,
                        Driver = "vfio-pci",
                        OriginalDriver = "iavf",
                        DeviceNode = "/dev/vfio/1000",
                    }),
                ],
            }),
        ];
        IReadOnlyList<AssignmentStatus> reported = StatusShare.Assignments(said, _ => true, out _);
        IReadOnlyList<PciNodeDevice> devices = StatusShare.Devices([.. Enumerable.Range(0, 1024).Select(Device)], _ => false, reported);
        var status = new PciNodeStatus
        {
            Assignments = reported,
            Devices = devices,
            Pools = StatusShare.Pools([
                .. devices.Select(d => new PciPool
                {
                    VendorId = "8086",
                    ProductId = "10ca",
                    Address = d.Address,
                    Rule = d.Rule,
                    Total = 1,
                }),
            ]),
        };

        await controller.CreateAsync(
            new PciNode
            {
                Metadata = new() { Name = "full" },
                Spec = new(),
            }
        );
        foreach (string round in new[] { "a", "b" })
        {
            await agent.PatchAsync<PciNode>(
                "full",
                null,
                EntityPatch.Json($$"""[{"op":"add","path":"/status","value":{{Json(status with { BootId = round })}}}]"""),
                "status"
            );
            await controller.PatchAsync<PciNode>(
                "full",
                null,
                EntityPatch.Json(
                    $$"""[{"op":"replace","path":"/spec","value":{{Json(new PciNodeSpec { Rules = rules, Assignments = assignments })}}}]"""
                )
            );
        }

        Assert.InRange(devices.Count, 100, 1024);
        using JsonDocument stored = await controller.SendRawAsync(HttpMethod.Get, "/apis/pcioperator.io/v1alpha1/pcinodes/full", default);
        Assert.InRange(Encoding.UTF8.GetByteCount(stored.RootElement.GetRawText()), 900_000, 1_500_000);
    }

    [Fact]
    public async Task A_claim_with_the_longest_names_gets_its_status()
    {
        await using LabCluster lab = await LabCluster.StartAsync(real: false);
        await lab.Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new() { Name = "long", NamespaceProperty = "default" },
                Spec = new()
                {
                    Requests =
                    [
                        .. Enumerable
                            .Range(0, 8)
                            .Select(i => new ClaimRequest
                            {
                                Name = $"r{i}",
                                Alias = new string((char)('a' + i), 253),
                                Count = 16,
                            }),
                    ],
                },
            }
        );
        await lab.PendingAsync("long", "there is no usable PciAlias");
    }

    [Fact]
    public async Task An_alias_with_the_longest_names_gets_its_status()
    {
        await using LabCluster lab = await LabCluster.StartAsync(real: false);
        await lab.Client.CreateAsync(
            new PciAlias
            {
                Metadata = new() { Name = "long" },
                Spec = new()
                {
                    Devices =
                    [
                        .. Enumerable
                            .Range(0, 16)
                            .Select(i => new AliasDevice
                            {
                                VendorId = "8086",
                                ProductId = $"10{i:x2}",
                                ResourceClass = "CUSTOM_" + new string('A', 248),
                                DeviceType = DeviceType.Vf,
                            }),
                    ],
                },
            }
        );
        PciAlias alias = await lab.UntilAsync(
            "its status",
            () => lab.Client.GetAsync<PciAlias>("long"),
            a => a.Status?.Summary is not null
        );
        Assert.Equal(4096, alias.Status!.Summary!.Length);
    }

    private static string Json(PciNodeSpec spec) => JsonSerializer.Serialize(spec, PciOperatorJsonContext.Default.PciNodeSpec);

    private static string Json(PciNodeStatus status) => JsonSerializer.Serialize(status, PciOperatorJsonContext.Default.PciNodeStatus);

    private static PciDeviceSpec Spec(string name, int priority) =>
        new()
        {
            Metadata = new() { Name = name },
            Spec = new() { Devices = [new DeviceSelectorSpec { VendorId = "8086", ProductId = "10ca" }], Priority = priority },
        };

    private static List<PciAssignment> Assignments(int count, int devices) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(i => new PciAssignment
                {
                    ClaimNamespace = "team",
                    ClaimName = $"claim-{i}-" + new string('c', 100),
                    ClaimUid = $"00000000-0000-0000-0000-{i:000000000000}",
                    NumaPreferenceMet = true,
                    Devices =
                    [
                        .. Enumerable
                            .Range(0, devices)
                            .Select(d => new AssignedDevice
                            {
                                Address = Device((i * devices) + d).Address,
                                StableId = "sn:" + new string('5', 60),
                                VendorId = "8086",
                                ProductId = "10ca",
                                NumaNode = 1,
                                IommuGroup = 1000 + d,
                                Request = "devices",
                                Companion = true,
                                OneTimeUse = true,
                            }),
                    ],
                }),
        ];

    private static PciNodeDevice Device(int i) =>
        new()
        {
            Address = $"{i / 256:x4}:{i % 256:x2}:00.0",
            StableId = "sn:" + new string('5', 60),
            VendorId = "8086",
            ProductId = "10ca",
            SubsystemVendorId = "8086",
            SubsystemProductId = "0001",
            ClassCode = "020000",
            Name = new string('N', 255),
            Type = DeviceType.Vf,
            ParentAddress = "0000:31:00.0",
            NumaNode = 0,
            Socket = 0,
            IommuGroup = i,
            Driver = "iavf",
            DeviceName = $"eth{i}",
            Serial = new string('5', 60),
            ResetMethods = ["flr", "pm", "bus"],
            ProvenReset = "flr",
            Rule = "nic",
            State = DeviceState.Unavailable,
            Reason = new string('r', 1024),
            Problems = [new PciDeviceProblem { Type = "AerErrors", Message = new string('p', 1024) }],
        };
}
