using System.Text;
using PciOperator.NovaVectors;

namespace PciOperator.Core.Tests;

/// <summary>
/// All that a case or a step may say is honoured, or said not to be: providers of Nova's NodeChoice, guests whose NUMA nodes are to be
/// found, a host that comes back otherwise.
/// </summary>
public sealed class VectorFormsTests : IDisposable
{
    private const string Nvme =
        """{"address": "0000:11:00.0", "vendor_id": "8086", "product_id": "0a54", "numa_node": 0, "dev_type": "type-PCI", "parent_addr": null}""";
    private const string Other =
        """{"address": "0000:12:00.0", "vendor_id": "8086", "product_id": "0a54", "numa_node": 1, "dev_type": "type-PCI", "parent_addr": null}""";
    private const string Alias = """[{"name": "a1", "vendor_id": "8086", "product_id": "0a54"}]""";
    private const string First = "00000000-0000-0000-0000-000000000001";

    private readonly string _folder = Directory.CreateTempSubdirectory("vectors").FullName;

    public void Dispose() => Directory.Delete(_folder, true);

    [Theory]
    [InlineData("""[["host1_0000:12:00.0"]]""", "host1_0000:12:00.0", true, true)]
    [InlineData("""["host1_0000:12:00.0"]""", "host1_0000:12:00.0", true, true)]
    [InlineData("""[["host1_0000:13:00.0"]]""", "host1_0000:13:00.0", false, true)]
    [InlineData("""[["host1_0000:13:00.0"]]""", "host1_0000:13:00.0", true, false)]
    [InlineData("""[["host1_0000:12:00.0"]]""", "host1_0000:11:00.0", true, false)]
    public void A_request_takes_its_devices_from_the_providers_that_Placement_chose(
        string providers,
        string answered,
        bool supported,
        bool passes
    )
    {
        Placed(
            "a1:1",
            providers,
            $$"""{"id": 1, "supported": {{(supported ? "true" : "false")}}, "consume": {{(supported ? """{"ok": true}""" : "null")}}, "pools": {{Pools(true)}}, "requests": [{"alias": "a1", "count": 1, "numa_policy": "legacy", "spec": [{"vendor_id": "8086", "product_id": "0a54", "rp_uuids": "{{answered}}"}]}]}"""
        );
        Report report = VectorSet.Read(_folder).Check();
        Assert.Equal((passes ? 1 : 0, passes ? 0 : 1), (report.Passed, report.Failed));
        Assert.Equal(1, report.Placed);
    }

    [Fact]
    public void Units_of_one_request_come_from_just_their_providers()
    {
        // One provider twice, though it has but one device.
        Placed("a1:2", """[["host1_0000:11:00.0", "host1_0000:11:00.0"]]""", """{"id": 1, "supported": false, "consume": null}""");
        Write("exact.jsonl", """{"id": 1, "feasible": false}""");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
        Placed(
            "a1:1,a1:1",
            """[["host1_0000:12:00.0"], ["host1_0000:11:00.0"]]""",
            """{"id": 1, "supported": true, "consume": {"ok": true}}"""
        );
        Write("exact.jsonl", """{"id": 1, "feasible": true}""");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
    }

    [Theory]
    [InlineData("""[["host1_0000:11:00.0"]]""", "for 2 devices")]
    [InlineData("""[["host1_0000:11:00.0"], []]""", "one list for each of the 1 items")]
    public void Providers_that_do_not_go_with_the_request_are_said_not_to(string providers, string why)
    {
        Placed("a1:2", providers, """{"id": 1, "supported": false, "consume": null}""");
        Report report = VectorSet.Read(_folder).Check();
        Assert.Contains(why, Assert.Single(report.Results).Disagreements.Single().Ours, StringComparison.Ordinal);
    }

    [Theory]
    // Any one node of the host serves it: Nova's answer may be any.
    [InlineData(1, "a1:1", "[1]", true, true)]
    [InlineData(1, "a1:1", "[0]", true, true)]
    // Both devices are on no one node.
    [InlineData(1, "a1:2", "null", false, true)]
    [InlineData(1, "a1:2", "[0]", true, false)]
    [InlineData(2, "a1:2", "[0, 1]", true, true)]
    [InlineData(2, "a1:2", "null", false, false)]
    // The host has but two.
    [InlineData(3, "a1:1", "null", false, true)]
    public void The_hosts_nodes_are_found_for_a_guest_that_has_so_many(int nodes, string request, string fit, bool supported, bool passes)
    {
        Write(
            "cases.jsonl",
            $$"""{"id": 1, "devices": [{{Nvme}}, {{Other}}], "device_specs": [{}], "aliases": {{Alias}}, "request": "{{request}}", "flavor_numa_policy": "required", "instance_numa_nodes": {{nodes}}, "host_cells": [{"id": 0, "socket": 0}, {"id": 1, "socket": 1}]}"""
        );
        Write(
            "expected.jsonl",
            $$"""{"id": 1, "supported": {{(supported ? "true" : "false")}}, "numa_fit": {{fit}}, "consume": {{(supported ? """{"ok": true}""" : "null")}}, "pools": {{Pools(false)}}}"""
        );
        Write("exact.jsonl", "");
        Report report = VectorSet.Read(_folder).Check();
        Assert.Equal(passes ? 1 : 0, report.Passed);
        Assert.Equal(passes ? 0 : 1, report.Failed);
        Write("exact.jsonl", $$"""{"id": 1, "feasible": {{(supported ? "true" : "false")}}}""");
        Assert.Equal(passes ? 1 : 0, VectorSet.Read(_folder).Check().Passed);
    }

    [Fact]
    public void A_host_that_comes_back_with_other_devices_keeps_what_is_in_use_and_offers_what_is_new()
    {
        string allocated = $$"""["allocated", "{{First}}"]""";
        Sequence(
            [Nvme],
            [
                """{"op": "claim+allocate", "instance": "1", "request": "a1:1"}""",
                // The allocated one is gone, another has come.
                $$"""{"op": "restart", "devices": [{{Other}}]}""",
                """{"op": "claim+allocate", "instance": "2", "request": "a1:1"}""",
                """{"op": "free", "instance": "1"}""",
                """{"op": "restart"}""",
                // Back again, and the other's gone while in use.
                $$"""{"op": "restart", "devices": [{{Nvme}}]}""",
                """{"op": "free", "instance": "2"}""",
            ],
            [
                Step("claim+allocate", $$"""{"0000:11:00.0": {{allocated}}}""", """, "devices": ["0000:11:00.0"], "supported": true"""),
                Step("restart", $$"""{"0000:11:00.0": {{allocated}}, "0000:12:00.0": ["available", null]}"""),
                Step(
                    "claim+allocate",
                    $$"""{"0000:11:00.0": {{allocated}}, "0000:12:00.0": ["allocated", "00000000-0000-0000-0000-000000000002"]}""",
                    """, "devices": ["0000:12:00.0"], "supported": true"""
                ),
                Step(
                    "free",
                    """{"0000:11:00.0": ["removed", null], "0000:12:00.0": ["allocated", "00000000-0000-0000-0000-000000000002"]}"""
                ),
                Step("restart", """{"0000:12:00.0": ["allocated", "00000000-0000-0000-0000-000000000002"]}"""),
                Step(
                    "restart",
                    """{"0000:11:00.0": ["available", null], "0000:12:00.0": ["allocated", "00000000-0000-0000-0000-000000000002"]}"""
                ),
                Step("free", """{"0000:11:00.0": ["available", null], "0000:12:00.0": ["removed", null]}"""),
            ]
        );
        Passes();
    }

    [Fact]
    public void A_host_that_comes_back_without_a_free_device_has_it_no_more()
    {
        Sequence(
            [Nvme, Other],
            [$$"""{"op": "restart", "devices": [{{Other}}]}""", """{"op": "claim", "instance": "1", "request": "a1:2"}"""],
            [
                Step("restart", """{"0000:12:00.0": ["available", null]}"""),
                Step("claim", """{"0000:12:00.0": ["available", null]}""", """, "supported": false"""),
            ]
        );
        Passes();
        // Nova's answer is looked at.
        Sequence(
            [Nvme, Other],
            [$$"""{"op": "restart", "devices": [{{Other}}]}"""],
            [Step("restart", """{"0000:11:00.0": ["available", null], "0000:12:00.0": ["available", null]}""")]
        );
        Assert.Equal(1, VectorSet.Read(_folder).Check().Failed);
    }

    [Fact]
    public void A_start_that_Novas_tracker_ends_halfway_is_Novas_error()
    {
        const string pf =
            """{"address": "0000:20:00.0", "vendor_id": "8086", "product_id": "10fb", "numa_node": 0, "dev_type": "type-PF", "parent_addr": null}""";
        const string vf =
            """{"address": "0000:20:02.0", "vendor_id": "8086", "product_id": "0a54", "numa_node": 0, "dev_type": "type-VF", "parent_addr": "0000:20:00.0"}""";
        // The PF is gone while a VF is in use: it is in no pool, out of which Nova takes it.
        const string error =
            """, "error": {"class": "PciDevicePoolEmpty", "message": "Attempt to consume PCI device 1:0000:20:00.0 from empty pool"}""";
        string taken = $$"""{"0000:20:00.0": ["unavailable", null], "0000:20:02.0": ["allocated", "{{First}}"]}""";
        Sequence(
            [pf, vf],
            ["""{"op": "claim+allocate", "instance": "1", "request": "a1:1"}""", $$"""{"op": "restart", "devices": [{{vf}}]}"""],
            [Step("claim+allocate", taken, """, "devices": ["0000:20:02.0"], "supported": true"""), Step("restart", taken, error)]
        );
        Assert.Equal(["raised-half-way"], VectorSet.Read(_folder).Check().ByRule.Keys);
    }

    [Fact]
    public void A_restart_may_change_aliases_and_cells()
    {
        Sequence(
            [Nvme, Other],
            [
                """{"op": "restart", "aliases": [{"name": "b1", "vendor_id": "8086", "product_id": "0a54", "numa_policy": "socket"}], "host_cells": [{"id": 0, "socket": 0}, {"id": 1, "socket": 0}]}""",
                """{"op": "claim", "instance": "1", "request": "b1:2", "numa_cells": [0]}""",
            ],
            [
                Step("restart", """{"0000:11:00.0": ["available", null], "0000:12:00.0": ["available", null]}"""),
                Step(
                    "claim",
                    $$"""{"0000:11:00.0": ["claimed", "{{First}}"], "0000:12:00.0": ["claimed", "{{First}}"]}""",
                    """, "devices": ["0000:11:00.0", "0000:12:00.0"], "supported": true"""
                ),
            ]
        );
        Passes();
    }

    [Theory]
    [InlineData("\"1\"", First)]
    [InlineData("1", First)]
    [InlineData("\"00000000-0000-0000-0000-000000000001\"", First)]
    [InlineData("\"5F0C5E42-5AD5-4A6C-8D1B-3F4E6B1A7C90\"", "5f0c5e42-5ad5-4a6c-8d1b-3f4e6b1a7c90")]
    [InlineData("\"vm-a\"", "vm-a")]
    public void An_instance_has_the_name_that_Novas_answer_has_for_it(string instance, string owner)
    {
        Sequence(
            [Nvme],
            [$$"""{"op": "claim", "instance": {{instance}}, "request": "a1:1"}""", $$"""{"op": "free", "instance": {{instance}}}"""],
            [
                Step("claim", $$"""{"0000:11:00.0": ["claimed", "{{owner}}"]}""", """, "devices": ["0000:11:00.0"], "supported": true"""),
                Step("free", """{"0000:11:00.0": ["available", null]}"""),
            ]
        );
        Passes();
    }

    [Fact]
    public void A_field_that_is_not_known_fails_nothing_and_is_said()
    {
        Sequence(
            [Nvme[..^1] + ", \"colour\": \"red\"}"],
            ["""{"op": "claim", "instance": "1", "request": "a1:2", "mood": 3}"""],
            [Step("claim", """{"0000:11:00.0": ["available", null]}""", """, "supported": false""")]
        );
        Report report = VectorSet.Read(_folder).Check();
        Assert.Equal(1, report.Passed);
        using var text = new StringWriter();
        report.Print(text);
        Assert.Contains("NOT LOOKED AT, 1 line: a device's colour is not known here", text.ToString(), StringComparison.Ordinal);
        Assert.Contains("NOT LOOKED AT, 1 line: an operation's mood is not known here", text.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_field_that_means_nothing_to_an_operation_fails()
    {
        Sequence(
            [Nvme],
            ["""{"op": "rescan", "devices": [], "device_specs": [{}]}"""],
            [Step("rescan", """{"0000:11:00.0": ["removed", null]}""")]
        );
        Assert.Equal(1, VectorSet.Read(_folder).Check().Failed);
    }

    [Fact]
    public void A_claim_in_a_sequence_may_have_providers_and_a_guest_to_place()
    {
        Sequence(
            [Nvme, Other],
            [
                """{"op": "claim", "instance": "1", "request": "a1:1", "rp_uuids": [["host1_0000:12:00.0"]]}""",
                """{"op": "claim", "instance": "2", "request": "a1:1", "rp_uuids": [["host1_0000:12:00.0"]]}""",
                """{"op": "claim", "instance": "3", "request": "a1:2", "numa_policy": "required", "instance_numa_nodes": 1}""",
            ],
            [
                Step(
                    "claim",
                    $$"""{"0000:11:00.0": ["available", null], "0000:12:00.0": ["claimed", "{{First}}"]}""",
                    """, "devices": ["0000:12:00.0"], "supported": true"""
                ),
                Step(
                    "claim",
                    $$"""{"0000:11:00.0": ["available", null], "0000:12:00.0": ["claimed", "{{First}}"]}""",
                    """, "supported": false"""
                ),
                Step(
                    "claim",
                    $$"""{"0000:11:00.0": ["available", null], "0000:12:00.0": ["claimed", "{{First}}"]}""",
                    """, "supported": false"""
                ),
            ]
        );
        Passes();
    }

    private void Passes()
    {
        Report report = VectorSet.Read(_folder).Check();
        using var text = new StringWriter();
        report.Print(text);
        Assert.True(report is { Passed: 1, Failed: 0, Deviated: 0 }, text.ToString());
    }

    private static string Pools(bool providers)
    {
        return $"[{Pool("0000:11:00.0", 0)}, {Pool("0000:12:00.0", 1)}]";

        string Pool(string address, int node) =>
            $$"""{"address": "{{address}}", "count": 1, "dev_type": "type-PCI", "devices": ["{{address}}"], "numa_node": {{node}}, "product_id": "0a54", "vendor_id": "8086"{{(providers ? $", \"rp_uuid\": \"host1_{address}\"" : "")}}}""";
    }

    private static string Step(string op, string states, string more = "") =>
        $$"""{"op": "{{op}}", "pools": [], "states": {{states}}{{more}}}""";

    private void Placed(string request, string providers, string answer)
    {
        Write(
            "cases.jsonl",
            $$"""{"id": 1, "devices": [{{Nvme}}, {{Other}}], "device_specs": [{}], "aliases": {{Alias}}, "request": "{{request}}", "report_in_placement": true, "pci_in_placement": true, "rp_uuids": {{providers}}}"""
        );
        Write("expected.jsonl", answer);
        Write("exact.jsonl", "");
    }

    private void Sequence(string[] devices, string[] ops, string[] steps)
    {
        foreach (string name in (string[])["cases.jsonl", "expected.jsonl", "exact.jsonl"])
            Write(name, "");
        Write(
            "ops_cases.jsonl",
            $$"""{"id": "ops-1", "mutates": false, "report_in_placement": true, "devices": [{{string.Join(", ", devices)}}], "device_specs": [{}], "aliases": {{Alias}}, "host_cells": [{"id": 0, "socket": 0}, {"id": 1, "socket": 1}], "ops": [{{string.Join(", ", ops)}}]}"""
        );
        Write("ops_expected.jsonl", $$"""{"id": "ops-1", "steps": [{{string.Join(", ", steps)}}]}""");
    }

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(_folder, name), text, Encoding.UTF8);
}
