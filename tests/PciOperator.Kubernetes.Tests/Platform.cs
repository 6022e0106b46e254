// Scripts that tests write need their executable bit.
[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]
