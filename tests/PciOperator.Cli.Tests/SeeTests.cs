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
            if (width > 0)
                Assert.All(said.Out.Split('\n'), l => Assert.True(l.Length <= width, l));
            SandboxLab.Golden($"{name}.{(width == 0 ? "piped" : width)}.txt", said.Out);
        }
    }

    [Theory]
    [MemberData(nameof(Commands))]
    public async Task Each_command_is_JSON_and_YAML_of_the_same_content(string name, string line)
    {
        _ = name;
        string[] args = line.Split(' ');
        using var json = JsonDocument.Parse((await lab.PipedAsync([.. args, "-o", "json"])).Out);
        var yaml = new YamlStream();
        yaml.Load(new StringReader((await lab.PipedAsync([.. args, "-o", "yaml"])).Out));
        Assert.True(json.RootElement.GetProperty("items").GetArrayLength() > 0);
        Same(json.RootElement, yaml.Documents[0].RootNode);
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
