using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Kubernetes;

/// <summary>
/// A kubeconfig, or several merged as kubectl does it: the first file to name a cluster, user, context or the current
/// context wins; relative paths are relative to the file that has them.
/// </summary>
internal sealed class Kubeconfig
{
    private readonly Dictionary<string, Entry> _clusters = [];
    private readonly Dictionary<string, Entry> _users = [];
    private readonly Dictionary<string, Entry> _contexts = [];
    private string? _currentContext;
    private string _source = "kubeconfig";

    private sealed record Entry(YamlMappingNode Node, string Folder);

    public static Kubeconfig Load(string paths)
    {
        Kubeconfig? merged = null;
        foreach (var path in paths.Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            if (!File.Exists(path))
                continue;
            string text;
            try
            {
                text = File.ReadAllText(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new KubeconfigException($"Cannot read kubeconfig {path}: {e.Message}", e);
            }

            var one = Parse(text, Path.GetDirectoryName(Path.GetFullPath(path))!, path);
            if (merged is null)
                merged = one;
            else
                merged.Merge(one);
        }

        return merged ?? throw new KubeconfigException($"No kubeconfig at {paths.Replace(":", " or ", StringComparison.Ordinal)}.");
    }

    public static Kubeconfig Parse(string text, string folder, string source)
    {
        var result = new Kubeconfig { _source = source };
        var yaml = new YamlStream();
        try
        {
            yaml.Load(new StringReader(text));
        }
        catch (YamlException e)
        {
            throw new KubeconfigException($"{source} is not YAML: line {e.Start.Line}: {e.Message}", e);
        }

        if (yaml.Documents.Count == 0)
            return result;
        if (yaml.Documents[0].RootNode is not YamlMappingNode root)
            throw new KubeconfigException($"{source} is not a kubeconfig: expected a mapping with clusters, users and contexts.");
        result._currentContext = Text(root, "current-context");
        result.Read(root, "clusters", "cluster", folder, result._clusters);
        result.Read(root, "users", "user", folder, result._users);
        result.Read(root, "contexts", "context", folder, result._contexts);
        return result;
    }

    private void Read(YamlMappingNode root, string list, string item, string folder, Dictionary<string, Entry> into)
    {
        if (Child(root, list) is not YamlSequenceNode sequence)
            return;
        foreach (var node in sequence)
        {
            var name = node is YamlMappingNode mapping ? Text(mapping, "name") : null;
            if (name is null)
                throw new KubeconfigException($"{_source}: an entry of {list} has no name.");
            var body = Child((YamlMappingNode)node, item) as YamlMappingNode ?? [];
            into.TryAdd(name, new Entry(body, folder));
        }
    }

    private void Merge(Kubeconfig later)
    {
        _source = $"{_source}, {later._source}";
        _currentContext ??= later._currentContext;
        foreach (var (mine, theirs) in new[] { (_clusters, later._clusters), (_users, later._users), (_contexts, later._contexts) })
        {
            foreach (var (name, entry) in theirs)
                mine.TryAdd(name, entry);
        }
    }

    public KubernetesClientConfiguration Resolve(string? contextName)
    {
        contextName ??= _currentContext;
        if (string.IsNullOrEmpty(contextName))
            throw new KubeconfigException($"{_source} has no current-context; name one of: {string.Join(", ", _contexts.Keys)}.");
        var context = Find(_contexts, contextName, "context").Node;
        var cluster = Find(_clusters, Text(context, "cluster") ?? throw new KubeconfigException($"{_source}: context {contextName} names no cluster."), "cluster");
        var server = Text(cluster.Node, "server");
        if (!Uri.TryCreate(server, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
            throw new KubeconfigException($"{_source}: server of context {contextName} is '{server}'; expected a URL such as https://10.0.0.1:6443.");

        var authority = PemOf(cluster, "certificate-authority");
        var configuration = new KubernetesClientConfiguration
        {
            Server = uri,
            Namespace = Text(context, "namespace") is { Length: > 0 } ns ? ns : "default",
            CertificateAuthorities = authority is null ? null : ReadCertificates(authority, $"{_source}: certificate-authority"),
            SkipTlsVerify = Text(cluster.Node, "insecure-skip-tls-verify") is "true" or "True" or "TRUE",
            TlsServerName = Text(cluster.Node, "tls-server-name"),
        };
        return Text(context, "user") is { Length: > 0 } userName
            ? WithUser(configuration, Find(_users, userName, "user"), userName, cluster)
            : configuration;
    }

    private KubernetesClientConfiguration WithUser(KubernetesClientConfiguration configuration, Entry user, string name, Entry cluster)
    {
        var certificate = PemOf(user, "client-certificate");
        var key = PemOf(user, "client-key");
        if (certificate is not null != key is not null)
            throw new KubeconfigException($"{_source}: user {name} has a client certificate without its key, or a key without its certificate.");
        if (certificate is not null)
        {
            var (leaf, chain) = ReadCertificateWithKey(certificate, key!, $"{_source}: client certificate of user {name}");
            configuration = configuration with { ClientCertificate = leaf, ClientCertificateChain = chain };
        }

        // A token file goes before a token, as in client-go: the token is the one that was current when the file was written.
        if (Text(user.Node, "tokenFile") is { Length: > 0 } tokenFile)
            return configuration with { Credentials = CredentialSource.FromFile(Path.Combine(user.Folder, tokenFile)) };
        if (Text(user.Node, "token") is { Length: > 0 } token)
            return configuration with { Credentials = CredentialSource.FromToken(token) };
        if (Child(user.Node, "exec") is YamlMappingNode exec)
            return configuration with { Credentials = ReadExec(exec, user.Folder, name, configuration, cluster) };
        return configuration;
    }

    private ExecCredentialSource ReadExec(YamlMappingNode exec, string folder, string user, KubernetesClientConfiguration configuration, Entry cluster)
    {
        var apiVersion = Text(exec, "apiVersion");
        if (apiVersion is not ("client.authentication.k8s.io/v1" or "client.authentication.k8s.io/v1beta1"))
            throw new KubeconfigException($"{_source}: exec of user {user} has apiVersion '{apiVersion}'; expected client.authentication.k8s.io/v1 or v1beta1.");
        if (Text(exec, "command") is not { Length: > 0 } command)
            throw new KubeconfigException($"{_source}: exec of user {user} has no command.");
        if (Text(exec, "interactiveMode") == "Always")
            throw new KubeconfigException($"{_source}: exec of user {user} wants a terminal (interactiveMode: Always), and there is none here.");
        return new ExecCredentialSource
        {
            ApiVersion = apiVersion,
            // A bare name is looked up in PATH; a relative path belongs to the kubeconfig's folder.
            Command = command.Contains('/', StringComparison.Ordinal) ? Path.Combine(folder, command) : command,
            Arguments = Child(exec, "args") is YamlSequenceNode args ? [.. args.Select(a => (a as YamlScalarNode)?.Value ?? "")] : [],
            Environment = Child(exec, "env") is YamlSequenceNode env
                ? [.. env.OfType<YamlMappingNode>().Select(e => KeyValuePair.Create(Text(e, "name") ?? "", Text(e, "value") ?? ""))]
                : [],
            InstallHint = Text(exec, "installHint"),
            Cluster = Text(exec, "provideClusterInfo") is "true" or "True" or "TRUE"
                ? new ExecClusterInfo(configuration.Server.OriginalString, configuration.TlsServerName, configuration.SkipTlsVerify, PemOf(cluster, "certificate-authority"))
                : null,
        };
    }

    private Entry Find(Dictionary<string, Entry> entries, string name, string what) =>
        entries.TryGetValue(name, out var entry)
            ? entry
            : throw new KubeconfigException($"{_source} has no {what} '{name}'; it has: {string.Join(", ", entries.Keys)}.");

    /// <summary>The PEM text of <c>{key}-data</c> (base64), else of the file that <c>{key}</c> names; null when there is neither.</summary>
    private string? PemOf(Entry entry, string key)
    {
        if (Text(entry.Node, $"{key}-data") is { Length: > 0 } data)
        {
            try
            {
                return Encoding.UTF8.GetString(Convert.FromBase64String(data));
            }
            catch (FormatException e)
            {
                throw new KubeconfigException($"{_source}: {key}-data is not base64.", e);
            }
        }

        if (Text(entry.Node, key) is not { Length: > 0 } file)
            return null;
        var path = Path.Combine(entry.Folder, file);
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new KubeconfigException($"{_source}: cannot read {key} {path}: {e.Message}", e);
        }
    }

    internal static X509Certificate2Collection ReadCertificates(string pem, string source)
    {
        var certificates = new X509Certificate2Collection();
        try
        {
            certificates.ImportFromPem(pem);
        }
        catch (CryptographicException e)
        {
            throw new KubeconfigException($"{source} is not a PEM certificate: {e.Message}", e);
        }

        return certificates.Count > 0 ? certificates : throw new KubeconfigException($"{source} has no PEM certificate in it.");
    }

    internal static (X509Certificate2 Leaf, X509Certificate2Collection? Chain) ReadCertificateWithKey(string certificate, string key, string source)
    {
        var all = ReadCertificates(certificate, source);
        try
        {
            var leaf = X509Certificate2.CreateFromPem(certificate, key);
            all.RemoveAt(0);
            return (leaf, all.Count > 0 ? all : null);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new KubeconfigException($"{source} and its key do not go together: {e.Message}", e);
        }
    }

    private static YamlNode? Child(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(new YamlScalarNode(key), out var child) ? child : null;

    private static string? Text(YamlMappingNode node, string key) =>
        Child(node, key) is YamlScalarNode { Value: { } value } scalar
        && (scalar.Style is ScalarStyle.SingleQuoted or ScalarStyle.DoubleQuoted || value is not ("null" or "~" or ""))
            ? value
            : null;
}
