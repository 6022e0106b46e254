using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text;
using PciOperator.Cli.Output;
using PciOperator.Import;

namespace PciOperator.Cli.Import;

/// <summary>The commands that print what another system says as PciOperator's resources. They ask no cluster and change nothing.</summary>
internal static class ImportCommands
{
    private const string StandardInput = "-";

    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(CliIo io) =>
        [
            new Command(
                "import",
                "Print PciDeviceSpecs, PciAliases and claims for what another system says, as YAML. What can't be carried over is a comment that says why. No cluster is asked."
            )
            {
                NovaConf(io),
                Flavors(io),
                Objects(
                    io,
                    "sriov",
                    "From SriovNetworkNodePolicies of the SR-IOV network operator (kubectl get sriovnetworknodepolicies -A -o yaml).",
                    SriovImport.Read
                ),
                Objects(
                    io,
                    "harvester",
                    "From Harvester's PCIDeviceClaims, PCIDevices and SRIOVNetworkDevices (kubectl get pcideviceclaims,pcidevices,sriovnetworkdevices -o yaml).",
                    HarvesterImport.Read
                ),
            },
        ];

    private static Command NovaConf(CliIo io)
    {
        Argument<string[]> files = FilesArgument(ArgumentArity.ZeroOrMore, "What all hosts read, in Nova's order; - is standard input.");
        var nodes = new Option<string[]>("--node")
        {
            Description = "A file that one host reads after these: the node's name and the file. May be given more than once.",
            HelpName = "NODE=FILE",
        };
        var labels = new Option<string[]>("--node-selector")
        {
            Description = "A label of the nodes that FILE is for; without it all nodes. May be given more than once.",
            HelpName = "KEY=VALUE",
        };
        nodes.Validators.Add(result => CheckPairs(result, "NODE=FILE, such as compute-1=/etc/nova/nova.conf"));
        labels.Validators.Add(result => CheckPairs(result, "KEY=VALUE, such as pci=true"));
        Option<bool> strict = StrictOption();
        var command = new Command("nova.conf", "From Nova's device_spec (passthrough_whitelist) and alias options, as Nova reads them.")
        {
            files,
            nodes,
            labels,
            strict,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(files) is not { Length: > 0 } && result.GetValue(nodes) is not { Length: > 0 })
                result.AddError("Name a nova.conf, or --node NODE=FILE.");
        });
        command.SetAction(
            (parsed, ct) =>
                WriteAsync(
                    io,
                    NovaConfImport.Read(
                        new NovaConfSource
                        {
                            Files = Read(io, parsed.GetValue(files)),
                            NodeFiles = [.. Pairs(parsed.GetValue(nodes)).Select(p => new NodeFile(p.Key, Read(io, p.Value)))],
                            NodeSelector = Pairs(parsed.GetValue(labels)).ToDictionary(p => p.Key, p => p.Value, StringComparer.Ordinal),
                        }
                    ),
                    parsed.GetValue(strict),
                    ct
                )
        );
        return command;
    }

    private static Command Flavors(CliIo io)
    {
        Argument<string[]> files = FilesArgument(
            ArgumentArity.OneOrMore,
            "JSON of 'openstack flavor list --long' or 'flavor show'; - is standard input."
        );
        var conf = new Option<string[]>("--nova-conf")
        {
            Description = "The nova.conf that defines the aliases: what it doesn't define is then an error. May be given more than once.",
            HelpName = "FILE",
        };
        Option<bool> strict = StrictOption();
        var command = new Command(
            "flavors",
            "From flavors' pci_passthrough:alias and hw:pci_numa_affinity_policy: a PassthroughClaim for each, to copy."
        )
        {
            files,
            conf,
            strict,
        };
        command.SetAction(
            (parsed, ct) =>
                WriteAsync(
                    io,
                    FlavorImport.Read(
                        Read(io, parsed.GetValue(files)),
                        parsed.GetValue(conf) is { Length: > 0 } given ? Read(io, given) : null
                    ),
                    parsed.GetValue(strict),
                    ct
                )
        );
        return command;
    }

    private static Command Objects(CliIo io, string name, string description, Func<IReadOnlyList<SourceFile>, ImportResult> read)
    {
        Argument<string[]> files = FilesArgument(ArgumentArity.OneOrMore, "YAML or JSON of the objects; - is standard input.");
        Option<bool> strict = StrictOption();
        var command = new Command(name, description) { files, strict };
        command.SetAction((parsed, ct) => WriteAsync(io, read(Read(io, parsed.GetValue(files))), parsed.GetValue(strict), ct));
        return command;
    }

    private static Argument<string[]> FilesArgument(ArgumentArity arity, string description) =>
        new("FILE") { Arity = arity, Description = description };

    private static Option<bool> StrictOption() =>
        new("--strict") { Description = "Exit with 1 when anything was refused, and not only when all was." };

    private static async Task<int> WriteAsync(CliIo io, ImportResult result, bool strict, CancellationToken ct)
    {
        await io.Out.WriteAsync(result.ToYaml().AsMemory(), ct);
        await io.Out.FlushAsync(ct);
        foreach (ImportError error in result.Errors)
            await io.Error.WriteLineAsync($"error: {Plain.Text(error.ToString())}".AsMemory(), ct);
        if (result.Objects.Count == 0)
            await io.Error.WriteLineAsync("error: Nothing was found to import.".AsMemory(), ct);
        await io.Error.FlushAsync(ct);
        return result.Objects.Count == 0 || (strict && result.Errors.Count > 0) ? ExitCodes.Failed : ExitCodes.Ok;
    }

    private static List<SourceFile> Read(CliIo io, string[]? names) => [.. (names ?? []).Select(name => Read(io, name))];

    private static SourceFile Read(CliIo io, string name)
    {
        if (name == StandardInput)
            return new SourceFile("standard input", io.In.ReadToEnd());
        try
        {
            return new SourceFile(name, Strict.GetString(io.ReadFile(name)));
        }
        catch (DecoderFallbackException)
        {
            throw new CliException(ExitCodes.Failed, $"{name} is not UTF-8 text.");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new CliException(ExitCodes.NotFound, $"There is no file {name}.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CliException(ExitCodes.Failed, $"{name} can't be read: {e.Message}");
        }
    }

    private static IEnumerable<KeyValuePair<string, string>> Pairs(string[]? texts) =>
        (texts ?? []).Select(text => KeyValuePair.Create(text[..text.IndexOf('=')], text[(text.IndexOf('=') + 1)..]));

    private static void CheckPairs(OptionResult result, string expected)
    {
        foreach (Token token in result.Tokens)
        {
            int equal = token.Value.IndexOf('=');
            if (equal <= 0 || equal == token.Value.Length - 1)
                result.AddError($"{result.IdentifierToken?.Value} {token.Value} is not {expected}.");
        }
    }
}
