from kubecore.cli.main import main

main()
