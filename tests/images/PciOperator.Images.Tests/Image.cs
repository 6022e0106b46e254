using System.Diagnostics;
using System.Text.Json.Nodes;
using PciOperator.Testing;

namespace PciOperator.Images.Tests;

/// <summary>What an image says of itself.</summary>
/// <param name="Digest">Of its manifest.</param>
/// <param name="Architecture">"amd64", "arm64".</param>
/// <param name="User">A number.</param>
/// <param name="Entrypoint">The program.</param>
/// <param name="Environment">NAME=VALUE.</param>
/// <param name="Labels">By name.</param>
internal sealed record ImageConfiguration(
    string Digest,
    string Architecture,
    string User,
    IReadOnlyList<string> Entrypoint,
    IReadOnlyList<string> Environment,
    IReadOnlyDictionary<string, string> Labels
);

/// <summary>The images that <c>tests/images/build</c> has made, in a store of their own.</summary>
internal static class Image
{
    private const string HowTo = "make test-images builds them, as root, after tests/images/install-packages";

    public static string Artifacts { get; } = Path.Combine(Kubectl.Repository, "artifacts", "images");

    /// <summary>What an image says of itself.</summary>
    public static async Task<ImageConfiguration> InspectAsync(string name)
    {
        JsonNode image = JsonNode.Parse(await BuildahAsync("inspect", "--type", "image", name))!;
        JsonNode oci = image["OCIv1"]!;
        JsonNode config = oci["config"]!;
        return new ImageConfiguration(
            (string)image["FromImageDigest"]!,
            (string)oci["architecture"]!,
            (string)config["User"]!,
            Strings(config["Entrypoint"]),
            Strings(config["Env"]),
            config["Labels"]!.AsObject().ToDictionary(l => l.Key, l => (string)l.Value!)
        );
    }

    /// <summary>Shows an image's files in a folder until it is disposed.</summary>
    public static async Task<Mounted> MountAsync(string name)
    {
        string container = (await BuildahAsync("from", "--quiet", "--pull-never", name)).Trim();
        return new Mounted(container, (await BuildahAsync("mount", container)).Trim());
    }

    /// <summary>Runs buildah on that store; what it prints.</summary>
    public static async Task<string> BuildahAsync(params string[] arguments)
    {
        string store = Path.Combine(Artifacts, "storage.conf");
        if (!File.Exists(store))
            Requirement.IsMissing($"There are no images: {HowTo}.");
        var start = new ProcessStartInfo("buildah", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["CONTAINERS_STORAGE_CONF"] = store;
        start.Environment["BUILDAH_ISOLATION"] = "chroot";
        return await RunAsync(start);
    }

    /// <summary>Runs a program to its end; what it prints.</summary>
    public static async Task<string> RunAsync(ProcessStartInfo start)
    {
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0
            ? await output
            : throw new InvalidOperationException(
                $"{start.FileName} {string.Join(' ', start.ArgumentList)} ended with {process.ExitCode}: {await output}{await errors}"
            );
    }

    private static string[] Strings(JsonNode? list) => [.. list?.AsArray().Select(n => (string)n!) ?? []];

    /// <param name="container">buildah's name of it.</param>
    /// <param name="root">The folder with the image's files.</param>
    internal sealed class Mounted(string container, string root) : IAsyncDisposable
    {
        public string Root => root;

        public async ValueTask DisposeAsync() => await BuildahAsync("rm", container);
    }
}
