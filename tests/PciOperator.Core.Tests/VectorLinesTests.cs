using System.Text;
using PciOperator.NovaVectors;

namespace PciOperator.Core.Tests;

/// <summary>Every line that is read is counted, whatever is in it.</summary>
public sealed class VectorLinesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vectors").FullName;

    public void Dispose() => Directory.Delete(_folder, true);

    [Fact]
    public void Lines_that_are_no_cases_and_answers_that_belong_to_none_fail_and_are_counted()
    {
        // Windows line ends, blank lines, text that is no JSON, a list, a case without an id.
        Write("cases.jsonl", "not json\r\n\r\n{\"id\": 1}\r\n[]\r\n{\"noid\": 2}\r\n   \r\n");
        Write("expected.jsonl", "{\"id\": 9}\r\n{\"id\": 2}\n{}\n{}\n{\"id\": 4}\n");
        Write("exact.jsonl", "{\"id\": 77, \"feasible\": true}\nzzz\n{\"id\": 77, \"feasible\": false}\n");
        Report report = VectorSet.Read(_folder).Check();
        // Four cases; one answer too many; a line of the yardstick that is no JSON, one twice, one without a case.
        Assert.Equal(8, report.Lines);
        Assert.Equal(8, report.Failed);
        Assert.Equal(report.Lines, report.Passed + report.Failed + report.Deviated);
        using var text = new StringWriter();
        report.Print(text);
        Assert.EndsWith($"0 passed, 8 failed, 0 deviated{Environment.NewLine}", text.ToString());
    }

    [Fact]
    public void A_good_line_with_Windows_line_ends_and_without_a_last_one_passes()
    {
        Write(
            "cases.jsonl",
            """{"id": 1, "devices": [], "device_specs": [], "aliases": [{"name": "a1", "vendor_id": "8086", "product_id": "10ca"}], "request": "a1:1"}"""
                + "\r\n"
        );
        Write("expected.jsonl", """{"id": 1, "matched": {}, "pools": [], "supported": false}""");
        Write("exact.jsonl", """{"id": 1, "feasible": false}""");
        Report report = VectorSet.Read(_folder).Check();
        Assert.Equal((1, 1, 0, 0), (report.Lines, report.Passed, report.Failed, report.Deviated));
    }

    [Theory]
    [InlineData("cases.jsonl")]
    [InlineData("expected.jsonl")]
    [InlineData("exact.jsonl")]
    public void A_file_that_must_be_there_is_named_when_it_is_not(string missing)
    {
        foreach (string name in (string[])["cases.jsonl", "expected.jsonl", "exact.jsonl"])
        {
            if (name != missing)
                Write(name, "");
        }

        Assert.Contains(missing, Assert.Throws<InvalidDataException>(() => VectorSet.Read(_folder)).Message, StringComparison.Ordinal);
        Write(missing, "");
        Assert.Equal(0, VectorSet.Read(_folder).Check().Lines);
    }

    private const string Pf =
        """{"address": "0000:11:00.0", "vendor_id": "8086", "product_id": "10fb", "numa_node": null, "dev_type": "type-PF", "parent_addr": null, "ifname": "eth0"}""";

    private const string OtherPf =
        """{"address": "0000:12:00.0", "vendor_id": "8086", "product_id": "10fb", "numa_node": null, "dev_type": "type-PF", "parent_addr": null, "ifname": "eth1"}""";

    private const string Vf =
        """{"address": "0000:11:02.0", "vendor_id": "8086", "product_id": "10ed", "numa_node": null, "dev_type": "type-VF", "parent_addr": "0000:11:00.0"}""";

    private const string OtherVf =
        """{"address": "0000:11:02.1", "vendor_id": "8086", "product_id": "10ed", "numa_node": null, "dev_type": "type-VF", "parent_addr": "0000:11:00.0"}""";

    [Fact]
    public void A_spec_with_the_address_of_a_PF_that_a_case_hides_at_a_restart_does_not_mean_its_VFs()
    {
        Sequence(
            $"[{Pf}, {Vf}]",
            """[{"address": "0000:11:00.0"}]""",
            [$$"""{"op": "rescan", "devices": [{{Vf}}]}""", """{"op": "restart"}"""],
            [
                """{"op": "rescan", "pools": [], "states": {"0000:11:00.0": ["removed", null], "0000:11:02.0": ["available", null]}}""",
                """{"op": "restart", "pools": [], "states": {}}""",
            ]
        );
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
    }

    [Fact]
    public void A_pool_that_goes_on_offering_what_is_gone_is_Novas_error()
    {
        const string gone =
            """{"address": "0000:11:00.0", "count": 1, "dev_type": "type-PF", "devices": ["0000:11:00.0"], "numa_node": null, "product_id": "10fb", "vendor_id": "8086"}""";
        Sequence(
            $"[{Pf}]",
            """[{"devname": "eth0"}]""",
            ["""{"op": "rescan", "devices": []}""", """{"op": "claim", "instance": "1", "request": "a1:1"}"""],
            [
                $$"""{"op": "rescan", "pools": [{{gone}}], "states": {"0000:11:00.0": ["removed", null]} }""",
                $$"""{"op": "claim", "devices": [], "pools": [{{gone}}], "states": {}, "supported": true}""",
            ]
        );
        Assert.Equal(["served-nothing"], VectorSet.Read(_folder).Check().ByRule.Keys);

        const string there =
            """{"address": "0000:12:00.0", "count": 1, "dev_type": "type-PF", "devices": ["0000:12:00.0"], "numa_node": null, "product_id": "10fb", "vendor_id": "8086"}""";
        Sequence(
            $"[{Pf}, {OtherPf}]",
            """[{"devname": "eth0"}, {"devname": "eth1"}]""",
            [$$"""{"op": "rescan", "devices": [{{OtherPf}}]}""", """{"op": "claim", "instance": "1", "request": "a1:2"}"""],
            [
                $$"""{"op": "rescan", "pools": [{{gone}}, {{there}}], "states": {"0000:11:00.0": ["removed", null], "0000:12:00.0": ["available", null]} }""",
                """{"op": "claim", "error": {"class": "PciDeviceInvalidStatus", "message": "PCI device 1:0000:11:00.0 is deleted instead of ['available']"}, "pools": [], "states": {"0000:12:00.0": ["available", null]}, "supported": true}""",
            ]
        );
        Assert.Equal(["raised-half-way"], VectorSet.Read(_folder).Check().ByRule.Keys);
    }

    [Fact]
    public void A_device_with_a_null_tag_may_be_in_the_pool_of_another_tag_and_nowhere_else()
    {
        const string specs = """[{"address": "02.0", "physical_network": null}, {"trusted": "true"}]""";
        string Pool(string address) =>
            $$"""{"address": "{{address}}", "count": 2, "dev_type": "type-VF", "devices": ["0000:11:02.0", "0000:11:02.1"], "numa_node": null, "product_id": "10ed", "remote_managed": "false", "trusted": "true", "vendor_id": "8086"}""";
        Case($"[{OtherVf}, {Vf}]", specs, $$"""{"id": 1, "pools": [{{Pool("0000:11:00.0")}}]}""");
        Assert.Equal(["null-tag"], VectorSet.Read(_folder).Check().ByRule.Keys);
        Case($"[{OtherVf}, {Vf}]", specs, $$"""{"id": 1, "pools": [{{Pool("0000:12:00.0")}}]}""");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Failed);
    }

    [Fact]
    public void A_node_that_is_no_cell_of_the_host_makes_no_socket_unknown()
    {
        string Device(int slot, int node) =>
            $$"""{"address": "0000:10:{{slot:x2}}.0", "vendor_id": "8086", "product_id": "10fb", "numa_node": {{node}}, "dev_type": "type-PF", "parent_addr": null}""";
        Write(
            "cases.jsonl",
            $$"""{"id": 1, "devices": [{{Device(0, 0)}}, {{Device(1, 2)}}], "device_specs": [{}], "aliases": {{Alias}}, "request": "a1:1", "flavor_numa_policy": "socket", "numa_cells": [1], "host_cells": [{"id": 0, "socket": 0}, {"id": 1, "socket": 0}]}"""
        );
        Write("expected.jsonl", """{"id": 1}""");
        Write("exact.jsonl", """{"id": 1, "feasible": true}""");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
    }

    [Fact]
    public void Classes_and_traits_play_no_part_in_the_yardstick()
    {
        Write(
            "cases.jsonl",
            $$"""{"id": 1, "devices": [{{Vf}}], "device_specs": [{}], "aliases": [{"name": "a1", "resource_class": "CUSTOM_A16", "traits": "big"}], "request": "a1:1", "report_in_placement": true, "pci_in_placement": true}"""
        );
        Write("expected.jsonl", """{"id": 1}""");
        Write("exact.jsonl", """{"id": 1, "feasible": true}""");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
    }

    [Fact]
    public void An_image_with_a_bad_policy_is_an_error_about_the_policy()
    {
        Write(
            "cases.jsonl",
            $$"""{"id": 1, "devices": [], "device_specs": [], "aliases": {{Alias}}, "request": "a1:1", "image_numa_policy": "bogus"}"""
        );
        Write("expected.jsonl", """{"id": 1, "request_error": {"class": "ValueError", "message": "Field value bogus is invalid"}}""");
        Write("exact.jsonl", "");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
    }

    [Fact]
    public void Repeated_items_of_a_request_are_decided_together()
    {
        Case($"[{Pf}]", "[{}]", """{"id": 1}""");
        Write(
            "cases.jsonl",
            File.ReadAllText(Path.Combine(_folder, "cases.jsonl"))
                .Replace("a1:1", string.Join(',', Enumerable.Repeat("a1:1", 20)), StringComparison.Ordinal)
        );
        Write("exact.jsonl", """{"id": 1, "feasible": false}""");
        Assert.Equal(1, VectorSet.Read(_folder).Check().Passed);
    }

    [Theory]
    [InlineData("available", 0)]
    [InlineData("unclaimable", 0)]
    [InlineData("unavailable", 1)]
    public void A_stored_state_is_excused_only_where_the_owners_in_Novas_answer_mean_ours(string vf, int passed)
    {
        // Here the VF of an allocated PF is unavailable. Where Nova's answer has the PF as only claimed, ours is not what its owners mean.
        string Step(string pf) =>
            $$"""{"op": "claim+allocate", "devices": ["0000:11:00.0"], "pools": [], "states": {"0000:11:00.0": ["{{pf}}", "00000000-0000-0000-0000-000000000001"], "0000:11:02.0": ["{{vf}}", null]}, "supported": true}""";
        string[] ops = ["""{"op": "claim+allocate", "instance": "1", "request": "a1:1"}"""];
        Sequence($"[{Pf}, {Vf}]", "[{}]", ops, [Step("allocated")]);
        Report report = VectorSet.Read(_folder).Check();
        Assert.Equal((passed, 0, 1 - passed), (report.Passed, report.Failed, report.Deviated));
        Sequence($"[{Pf}, {Vf}]", "[{}]", ops, [Step("claimed")]);
        Assert.Equal(1, VectorSet.Read(_folder).Check().Failed);
    }

    [Fact]
    public void A_wide_domain_may_have_a_prefix()
    {
        Case(
            "[]",
            """[{"address": "0x10000:00:00.0"}]""",
            """{"id": 1, "spec_error": {"class": "PciConfigInvalidSpec", "message": "Invalid [pci]device_spec config: property domain (0x10000) is greater than the maximum allowable value (FFFF)."}}"""
        );
        Assert.Equal(["wide-domain"], VectorSet.Read(_folder).Check().ByRule.Keys);
    }

    private const string Alias = """[{"name": "a1", "vendor_id": "8086", "product_id": "10fb", "device_type": "type-PF"}]""";

    private void Case(string devices, string specs, string answer)
    {
        Write("cases.jsonl", $$"""{"id": 1, "devices": {{devices}}, "device_specs": {{specs}}, "aliases": {{Alias}}, "request": "a1:1"}""");
        Write("expected.jsonl", answer);
        Write("exact.jsonl", "");
    }

    private void Sequence(string devices, string specs, string[] ops, string[] steps)
    {
        foreach (string name in (string[])["cases.jsonl", "expected.jsonl", "exact.jsonl"])
            Write(name, "");
        Write(
            "ops_cases.jsonl",
            $$"""{"id": "ops-1", "mutates": false, "devices": {{devices}}, "device_specs": {{specs}}, "aliases": {{Alias}}, "ops": [{{string.Join(", ", ops)}}]}"""
        );
        Write("ops_expected.jsonl", $$"""{"id": "ops-1", "steps": [{{string.Join(", ", steps)}}]}""");
    }

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(_folder, name), text, Encoding.UTF8);
}
