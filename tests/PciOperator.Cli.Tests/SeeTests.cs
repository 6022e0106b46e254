using System.Text.Json;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Cli.Tests;

/// <summary>The commands that show what is there, against a sandbox.</summary>
public sealed class SeeTests(SandboxLab lab)
{
    public static TheoryData<string, string> Commands =>
        new()
        {
            { "devices", "devices" },
            { "devices-node", "devices --node node-1" },
            { "devices-all", "devices --all --node node-2" },
            { "groups", "groups" },
            { "vfs", "vfs" },
            { "vfs-traffic", "vfs --node node-1 --traffic" },
            { "vfs-traffic-wide", "vfs --node node-1 --traffic -o wide" },
            { "topology", "topology node-1" },
            { "nodes", "nodes" },
            { "claims", "claims" },
            { "claims-all", "claims -A" },
            { "who", "who 24:00.0" },
        };

    [Theory]
    [MemberData(nameof(Commands))]
    public async Task Each_command_writes_what_its_golden_file_has(string name, string line)
    {
        string[] args = line.Split(' ');
        foreach (int width in (int[])[0, 80, 200])
        {
            Said said = await lab.RunAsync(width, false, args);
            Assert.Equal((0, ""), (said.Code, said.Error));
            if (width > 0 && !line.EndsWith("wide", StringComparison.Ordinal))
                Assert.All(said.Out.Split('\n'), l => Assert.True(l.Length <= width, l));
            SandboxLab.Golden($"{name}.{(width == 0 ? "piped" : width)}.txt", said.Out);
        }
    }

    [Theory]
    [MemberData(nameof(Commands))]
    public async Task Each_command_is_JSON_and_YAML_of_the_same_content(string name, string line)
    {
        _ = name;
        string[] args = line.Replace(" -o wide", "", StringComparison.Ordinal).Split(' ');
        using var json = JsonDocument.Parse((await lab.PipedAsync([.. args, "-o", "json"])).Out);
        var yaml = new YamlStream();
        yaml.Load(new StringReader((await lab.PipedAsync([.. args, "-o", "yaml"])).Out));
        Assert.True(json.RootElement.GetProperty("items").GetArrayLength() > 0);
        Same(json.RootElement, yaml.Documents[0].RootNode);
    }

    [Fact]
    public async Task Traffic_is_in_JSON_as_the_agent_counts_it_and_what_a_driver_does_not_count_is_not()
    {
        using var json = JsonDocument.Parse((await lab.PipedAsync("vfs", "--node", "node-1", "--traffic", "-o", "json")).Out);
        var traffic = json
            .RootElement.GetProperty("items")
            .EnumerateArray()
            .SelectMany(pf => pf.GetProperty("vfs").EnumerateArray())
            .ToDictionary(
                vf => vf.GetProperty("address").GetString()!,
                vf => vf.TryGetProperty("traffic", out JsonElement t) ? t : (JsonElement?)null
            );
        JsonElement second = traffic["0000:21:10.2"]!.Value;
        Assert.Equal(6_000_000, second.GetProperty("receivedBytes").GetInt64());
        Assert.Equal(1_500_000, second.GetProperty("sentBytes").GetInt64());
        Assert.Equal(1, second.GetProperty("receivedDropped").GetInt64());
        Assert.Null(traffic["0000:81:10.0"]);
    }

    [Fact]
    public async Task Nodes_that_can_not_be_asked_are_said_once_with_the_reason()
    {
        Said said = await lab.RunAsync(
            0,
            false,
            ["vfs", "--traffic"],
            kubectl: "echo 'Error from server (Forbidden): pods is forbidden' >&2; exit 1"
        );
        Assert.Equal(ExitCodes.Ok, said.Code);
        Assert.Equal(
            "warning: traffic is not known of node-1, node-2: kubectl port-forward: Error from server (Forbidden): pods is forbidden\n",
            said.Error
        );
        Assert.Contains("0000:21:10.2", said.Out, StringComparison.Ordinal);
        Said none = await lab.RunAsync(
            0,
            false,
            ["vfs", "--traffic"],
            kubectl: "echo 'Forwarding from 127.0.0.1:9 -> 8081'; exec sleep 60"
        );
        Assert.StartsWith(
            "warning: traffic is not known of node-1, node-2: the agent doesn't answer: ",
            none.Error,
            StringComparison.Ordinal
        );
    }

    [Theory]
    [InlineData(null, null)]
    [InlineData(0L, "0 B")]
    [InlineData(1023L, "1023 B")]
    [InlineData(1024L, "1 KiB")]
    [InlineData(3_000_000L, "2.9 MiB")]
    [InlineData(long.MaxValue, "8 EiB")]
    public void Bytes_are_in_units_that_people_read(long? bytes, string? text) => Assert.Equal(text, See.TrafficView.Bytes(bytes));

    [Fact]
    public void What_an_agent_never_says_is_no_traffic()
    {
        const string address = "pcioperator_agent_vf_receive_bytes_total{pf=\"0000:21:00.0\",vf=\"0\",address=\"0000:21:10.0\"}";
        Assert.Equal(5_000_000_000, See.TrafficView.Of($"# HELP x\n{address} 5000000000\n")["0000:21:10.0"].ReceivedBytes);
        Assert.Equal(5_000_000_000, See.TrafficView.Of($"{address} 5e+09\n")["0000:21:10.0"].ReceivedBytes);
        foreach (
            string odd in (string[])
                [$"{address} -1", $"{address} 1e300", $"{address} e", $"x{address} 1", "pcioperator_agent_vf_receive_bytes_total 1", ""]
        )
        {
            Assert.Empty(See.TrafficView.Of(odd));
        }
    }

    [Fact]
    public async Task Names_are_one_a_line()
    {
        Said claims = await lab.PipedAsync("claims", "-o", "name");
        Assert.Contains("passthroughclaim.pcioperator.io/router\n", claims.Out, StringComparison.Ordinal);
        Assert.All(claims.Out.TrimEnd().Split('\n'), l => Assert.DoesNotContain(' ', l));
    }

    [Fact]
    public async Task Colours_are_on_a_terminal_only_and_not_against_NO_COLOR()
    {
        Assert.Contains('\u001b', (await lab.RunAsync(120, true, ["nodes"])).Out);
        Assert.DoesNotContain('\u001b', (await lab.RunAsync(120, false, ["nodes"])).Out);
        Assert.DoesNotContain('\u001b', (await lab.RunAsync(0, true, ["nodes"])).Out);
    }

    [Fact]
    public async Task What_is_not_there_and_what_can_not_be_meant_have_exit_codes_of_their_own()
    {
        Assert.Equal(ExitCodes.NotFound, (await lab.PipedAsync("devices", "--node", "nowhere")).Code);
        Assert.Equal(ExitCodes.NotFound, (await lab.PipedAsync("who", "ff:00.0")).Code);
        Assert.Equal(ExitCodes.Usage, (await lab.PipedAsync("who", "here")).Code);
        Assert.Equal(ExitCodes.Usage, (await lab.PipedAsync("devices", "--nope")).Code);
        Assert.Equal(ExitCodes.Usage, (await lab.PipedAsync("devices", "-o", "xml")).Code);
        Assert.Equal(ExitCodes.NoKubeconfig, (await lab.PipedAsync("nodes", "--kubeconfig", "/nowhere")).Code);
        Assert.Equal(ExitCodes.NoKubeconfig, (await lab.PipedAsync("nodes", "--context", "nobody")).Code);
    }

    [Fact]
    public async Task Completion_knows_commands_and_options()
    {
        Assert.Equal("devices\ndiagnose\ndiscover\n:4\n".Split('\n')[0], (await lab.PipedAsync("__complete", "de")).Out.Split('\n')[0]);
        Assert.Contains("--all\n", (await lab.PipedAsync("__complete", "devices", "--a")).Out, StringComparison.Ordinal);
    }

    private static void Same(JsonElement json, YamlNode yaml)
    {
        switch (json.ValueKind)
        {
            case JsonValueKind.Object:
                YamlMappingNode mapping = Assert.IsType<YamlMappingNode>(yaml);
                Assert.Equal(json.EnumerateObject().Count(), mapping.Children.Count);
                foreach (JsonProperty property in json.EnumerateObject())
                    Same(property.Value, mapping.Children[new YamlScalarNode(property.Name)]);
                break;
            case JsonValueKind.Array:
                YamlSequenceNode list = Assert.IsType<YamlSequenceNode>(yaml);
                Assert.Equal(json.GetArrayLength(), list.Children.Count);
                foreach ((JsonElement item, YamlNode node) in json.EnumerateArray().Zip(list.Children))
                    Same(item, node);
                break;
            case JsonValueKind.String:
                Assert.Equal(json.GetString(), Assert.IsType<YamlScalarNode>(yaml).Value);
                break;
            default:
                Assert.Equal(json.GetRawText(), Assert.IsType<YamlScalarNode>(yaml).Value);
                break;
        }
    }
}
